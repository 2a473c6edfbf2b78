"""What the numbers of `isograd theory` mean: one line each, in the order in which they are told."""

PHASE = {
    "phase": "ordered: gradients vanish; chaotic: they explode; critical: neither",
    "q_star": "mean square of the pre-activations that depth leads to",
    "stable": "whether lengths near q_star are drawn to it",
    "chi_1": "factor on the gradient's mean square, per layer backward",
    "chi_q": "dQ/dq at q_star: factor on a small error of the length, per layer",
    "c_star": "correlation that any two inputs come to",
    "chi_c": "factor on a small error of the correlation, per layer",
    "xi_q": "layers in which the length forgets by a factor e",
    "xi_c": "layers in which the correlation forgets by a factor e",
    "usable_depth": "layers that can be trained without skips and norms, about 6 xi_c",
}
CRITICAL = {
    "verdict": "stable, half-stable (from a threshold on), or none",
    "weight_var": "sigma_w^2: weights have this variance over fan_in",
    "bias_var": "sigma_b^2: variance of the biases",
    "q_star": "mean square of the pre-activations there",
    "chi_q": "dQ/dq there: lengths are drawn to q_star below 1, and leave it above",
}
GAINS = {
    "second_moment": "1/sqrt(E phi^2): keeps the rms of the signal",
    "std": "1/sqrt(Var phi): keeps it where the mean is taken off",
    "slope": "1/sqrt(E phi'^2): keeps the rms of the gradient",
    "torch_gain": "what torch.nn.init.calculate_gain says",
}
SPECTRUM = {
    "isometry": "are all singular values about 1 (dynamical isometry)?",
    "weight_var": "sigma_w^2",
    "bias_var": "sigma_b^2",
    "q": "mean square of the pre-activations, the same at every depth",
    "chi_1": "E s^2 of one layer",
    "mean": "E s^2 of the whole network: factor on the gradient's mean square",
    "variance": "Var s^2",
    "third": "E s^6",
    "edge": "largest s^2",
    "zero_mass": "share of singular values that are zero",
}
TRANSFORM = {
    "negative_slope": "of the leaky ReLU",
    "input_scale": "how much of phi the signal sees",
    "input_shift": "where on phi it sits",
    "output_shift": "takes the mean off",
    "output_scale": "a large one amplifies what finite width adds",
}
