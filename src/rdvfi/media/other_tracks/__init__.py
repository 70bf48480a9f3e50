"""Tracks beside the video: sound, subtitles, chapters, covers."""
