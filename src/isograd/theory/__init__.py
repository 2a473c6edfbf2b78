"""Mean-field theory of wide networks in float64: what signal and gradient do on average."""
