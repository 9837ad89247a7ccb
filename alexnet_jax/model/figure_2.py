"""Figure 2 and section 3.5: the paper's network as a table of layers."""

from alexnet_jax.model.layer_specs import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    Layer,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
)


def figure_2(classes: int = 1000) -> dict[str, Layer]:
    """The paper's network: Figure 2 and section 3.5, initialized as section 5 says."""
    return dict(
        # The first layer filters the 224 x 224 x 3 image with 96 kernels of 11 x 11 x 3, stride 4: 55 x 55.
        conv1=Convolution(kernels=96, size=11, stride=4),
        relu1=ReLU(),
        norm1=LocalResponseNormalization(),
        pool1=MaxPooling(),  # 27 x 27
        # The second takes the pooled output of its own column: 256 kernels of 5 x 5 x 48.
        conv2=Convolution(kernels=256, size=5, pad=2, bias=1.0),
        relu2=ReLU(),
        norm2=LocalResponseNormalization(),
        pool2=MaxPooling(),  # 13 x 13
        # "The kernels of the third convolutional layer are connected to all kernel maps in the second layer."
        exchange3=Exchange(),
        conv3=Convolution(kernels=384, size=3, pad=1),  # 3 x 3 x 256
        relu3=ReLU(),
        # Fourth and fifth follow without pooling or normalization between them, within their column.
        conv4=Convolution(kernels=384, size=3, pad=1, bias=1.0),  # 3 x 3 x 192
        relu4=ReLU(),
        conv5=Convolution(kernels=256, size=3, pad=1, bias=1.0),  # 3 x 3 x 192
        relu5=ReLU(),
        pool5=MaxPooling(),  # 6 x 6
        # "The neurons in the fully-connected layers are connected to all neurons in the previous layer."
        flatten5=Flatten(),
        exchange6=Exchange(),
        fc6=Dense(units=4096, bias=1.0),
        relu6=ReLU(),
        drop6=Dropout(),
        exchange7=Exchange(),
        fc7=Dense(units=4096, bias=1.0),
        relu7=ReLU(),
        drop7=Dropout(),
        exchange8=Exchange(),
        fc8=Dense(units=classes),
    )
