"""Checks that the record is what was recorded: nothing edited, added, removed or left out."""
