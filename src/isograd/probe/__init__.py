"""The probe: a live model and a batch in, a Record out; the only room that reads a live model."""
