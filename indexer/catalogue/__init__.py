"""From a catalogue file to rows with photos."""
