"""The dream as a Gymnasium environment, and the real environment seen through the filter."""
