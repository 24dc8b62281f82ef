"""Of files of strangers the decoders in C read what the file holds, and nothing else."""

import os

import numpy as np
import pytest
from PIL import EpsImagePlugin
from recordings import write_video
from small import PIXELS

from worldmodel.cli.goals import read_observation
from worldmodel.data.readers.pictures import read_picture, read_video, video_shape, video_times
from worldmodel.errors import FileFormatError
from worldmodel.plots import page

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_picture(path, "frame"),
        lambda path: read_picture(path.read_bytes(), "frame"),
        lambda path: read_observation(path, PIXELS),
        lambda path: page.picture(path, ""),
    ],
    ids=["file", "bytes", "goal", "report"],
)
def test_no_picture_is_handed_to_another_program(read, tmp_path, monkeypatch):
    """Pillow goes by the first bytes, whatever the name, and leaves PostScript to Ghostscript."""
    mark, program = tmp_path / "mark", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "frame.png").write_bytes(POSTSCRIPT)
    with pytest.raises(FileFormatError, match="no picture"):
        read(tmp_path / "frame.png")
    assert not mark.exists()


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile private.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nprivate.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("content", PLAYLISTS.values(), ids=PLAYLISTS)
def test_no_video_leads_to_other_files(content, tmp_path):
    av = pytest.importorskip("av", reason="needs worldmodel[video]")
    write_video(tmp_path / "private.mp4", np.zeros((4, 16, 16, 3), np.uint8), 10, av)
    path = tmp_path / "video.mp4"
    path.write_text(content)
    times = np.arange(4) / 10
    for read in (video_shape, video_times, lambda *a: read_video(a[0], times, 0.01, a[1], None)):
        with pytest.raises(FileFormatError, match="truncated, corrupt or no video"):
            read(path, "camera")
    assert video_shape(tmp_path / "private.mp4", "camera") == (16, 16, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov", ".webm"])
def test_videos_of_every_suffix_are_read(suffix, tmp_path):
    av = pytest.importorskip("av", reason="needs worldmodel[video]")
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    frames = np.full((4, 16, 16, 3), 120, np.uint8)
    path = write_video(tmp_path / f"film{suffix}", frames, 10, av, codec)
    read = read_video(path, video_times(path, "film"), 0.01, "film", None)
    assert read.shape == frames.shape and np.abs(read.astype(int) - 120).max() < 9
