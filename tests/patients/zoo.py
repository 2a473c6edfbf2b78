"""The healthy ones: real networks at their usual initialization on plausible data."""

from collections.abc import Callable

from patients import dense, images, language, residual, sequences
from patients.patient import Patient

HEALTHY: dict[str, Callable[[], Patient]] = {
    factory.__name__: factory
    for factory in (
        dense.mlp_relu,
        dense.mlp_relu_he_deep,
        dense.mlp_gelu_layer_norm,
        dense.mlp_silu_batch_norm,
        dense.mlp_tanh_xavier,
        dense.mlp_selu_lecun,
        dense.mlp_leaky_prelu,
        dense.mlp_dropout,
        dense.regressor,
        dense.binary_classifier,
        dense.multi_label,
        dense.maxout_glu,
        dense.weight_normed,
        dense.spectral_critic,
        dense.bilinear_pair,
        dense.siamese,
        dense.triplet_embedder,
        dense.autoencoder,
        dense.variational,
        dense.mixture_of_experts,
        sequences.rnn_tanh,
        sequences.lstm_two_layers,
        sequences.gru_bidirectional,
        sequences.cells_unrolled,
        sequences.embedding_bag,
        sequences.text_cnn,
        sequences.encoder_post_norm,
        sequences.encoder_pre_norm,
        sequences.transformer_seq2seq,
        sequences.attention_pool,
        sequences.conv1d_dilated,
        images.lenet,
        images.conv_batch_norm,
        images.conv_group_norm,
        images.style_net,
        images.conv_autoencoder,
        images.super_resolution,
        images.volumes,
        images.unet,
        images.mlp_mixer,
        residual.resnet18,
        residual.wide_resnet,
        residual.densenet,
        residual.mobilenet_v2,
        residual.efficientnet,
        residual.convnext,
        language.gpt2,
        language.bert,
        language.llama,
        language.vit,
        language.t5,
    )
}
