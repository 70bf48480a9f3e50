"""Tracks beside the video: audio, subtitles, chapters, covers."""
