"""The game: a window in which a dream is played with."""
