"""The step of a fit and its rate: AdamW, Muon or Adam, a schedule a fit.

Keras's own optimizers write a step as some thirty small operations a variable, which take longer to
trace than the rest of a model. Here a step is TensorFlow's fused Adam, one operation a variable,
and Muon orthogonalises all matrices of a shape together; the arithmetic is Keras's.
"""

import re
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.models.keras_settings import on_tensorflow

UNDECAYED = re.compile("bias|gamma|beta|token|embedding|moving_")  # in a variable's own name
# Paths that Muon leaves to AdamW; "3:head.kernel" is one of a joint training.
BESIDE_THE_BLOCKS = re.compile("^([0-9]+:)?head[./]|^feature_map[./]|embedding")
START_RATE = 1e-4  # until a schedule sets another, before each batch

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # of Adam, as in Keras

MOMENTUM = 0.95  # of Muon
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of x, x^3 and x^5 (Jordan et al. 2024)
NEWTON_SCHULZ_STEPS = 5
UPDATE_SCALE = 0.2  # root mean square of Muon's step over the rate: AdamW's (Liu et al. 2025)


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Rate at a step: linear warm-up, cosine to zero ("adamw", "muon"), or exponential decay to a
    tenth ("adam", the paper).
    """
    if config.optimizer == "adam":
        return config.learning_rate * 0.1 ** (step / total_steps)

    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup

    done = (step - warmup) / max(1, total_steps - warmup)
    return config.learning_rate * 0.5 * (1 + np.cos(np.pi * done))


class Schedule(keras.callbacks.Callback):
    """Sets the optimizer's rate before each batch, so that a compiled model serves fits of any
    length.
    """

    def __init__(self, config: TrainConfig, total_steps: int):
        super().__init__()
        self.config = config
        self.total_steps = total_steps
        self.step = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = learning_rate(self.config, self.step, self.total_steps)
        self.step += 1


def optimizer(
    name: str, weight_decay: float, ema: float = 0.0, precision: str = "float32"
) -> keras.optimizers.Optimizer:
    """AdamW (no decay on biases, norms and embeddings, gradients clipped to norm 1 a tensor), Muon,
    or plain Adam.

    "muon" (Jordan et al. 2024, scaled to AdamW's step as Liu et al. 2025 do): the matrices of the
    blocks take orthogonalised momentum; all else (patches, head, map of features, vectors) AdamW's
    step, unclipped. With `ema` the weights become, when Keras's fit ends, their average of that
    momentum over the steps. `precision` is that of Muon's products. Of other backends than
    TensorFlow it is Keras's own (`stock_optimizer`).
    """
    if not on_tensorflow():
        return stock_optimizer(name, weight_decay, ema)
    if name == "adam":
        return FusedAdam(ema=ema)
    if name == "muon":
        return StackedMuon(weight_decay=weight_decay, ema=ema, precision=precision)
    return FusedAdam(weight_decay=weight_decay, clipnorm=1.0, ema=ema)


def stock_optimizer(name: str, weight_decay: float, ema: float = 0.0) -> keras.optimizers.Optimizer:
    """The same arithmetic as Keras writes it, on any backend; Muon's products in float32."""
    averaged = {"use_ema": True, "ema_momentum": ema} if ema else {}
    if name == "adam":
        return keras.optimizers.Adam(START_RATE, **averaged)

    if name == "muon":
        chosen = keras.optimizers.Muon(
            START_RATE,
            weight_decay=weight_decay,
            adam_weight_decay=weight_decay,
            exclude_layers=["^head/", "^feature_map/"],
            **averaged,
        )
        # Muon's decay goes by a variable's own name.
        chosen.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "token", "embedding"])
        return chosen

    # AdamW's goes by the path, in which "embedding" would name the kernel of the patches too.
    chosen = keras.optimizers.AdamW(START_RATE, weight_decay=weight_decay, clipnorm=1.0, **averaged)
    chosen.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "token", "position_embedding"]
    )
    return chosen


class FusedAdam(keras.optimizers.Optimizer):
    """Adam (Kingma and Ba 2015), with decoupled weight decay AdamW (Loshchilov and Hutter 2019).

    As keras.optimizers.AdamW with UNDECAYED excluded: before the step a variable loses weight_decay
    * rate of itself; with `clipnorm` each gradient is scaled to that norm at most; with `ema` the
    average of that momentum takes the variables' place in `finalize_variable_values`.

    `stacked` holds the ids of variables that are N models' in one, by their first axis: of these
    each model's gradient is scaled alone, as if the model were fitted alone.
    """

    def __init__(
        self, weight_decay: float = 0.0, clipnorm: float | None = None, ema: float = 0.0, **options
    ):
        super().__init__(learning_rate=START_RATE, **options)
        self.decay = weight_decay
        self.largest_norm = clipnorm
        self.ema = ema
        self.stacked: frozenset[int] = frozenset()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        stepped = self._moments_of(variables)
        self.means = self._like(stepped, "mean")
        self.squares = self._like(stepped, "square")
        self.averages = self._like(variables, "average") if self.ema else {}

    def _moments_of(self, variables: Sequence[keras.Variable]) -> Sequence[keras.Variable]:
        """Those that take Adam's step."""
        return variables

    def _like(self, variables: Sequence[keras.Variable], name: str) -> dict[int, tf.Variable]:
        """A variable of zeros beside each of these, by their id."""
        made = {}
        for variable in variables:
            beside = self.add_variable_from_reference(variable, name)
            made[id(variable)] = beside.value
        return made

    def apply(self, grads, trainable_variables) -> None:
        """One step."""
        if not self.built:
            self.build(list(trainable_variables))

        pairs = []
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            if gradient is not None:
                pairs.append((tf.convert_to_tensor(gradient), variable))

        rate = tf.cast(self.learning_rate.value, tf.float32)
        self._step(pairs, rate)
        if self.ema:
            self._average([variable for _, variable in pairs])
        self.iterations.assign_add(1)

    def _step(self, pairs: Sequence[tuple], rate: tf.Tensor) -> None:
        gradients = [gradient for gradient, _ in pairs]
        if self.largest_norm is not None:
            stacked = [id(variable) in self.stacked for _, variable in pairs]
            gradients = clipped(gradients, self.largest_norm, stacked)

        # Made once: a number given to each operation would be a constant of its own in the graph.
        step = tf.cast(self.iterations.value + 1, tf.float32)
        beta_1, beta_2 = tf.constant(BETA_1), tf.constant(BETA_2)
        shared = {
            "beta1_power": tf.pow(beta_1, step),
            "beta2_power": tf.pow(beta_2, step),
            "lr": rate,
            "beta1": beta_1,
            "beta2": beta_2,
            "epsilon": tf.constant(EPSILON),
        }
        lost = self.decay * rate

        for gradient, (_, variable) in zip(gradients, pairs, strict=True):
            weights = variable.value
            if self.decay and self._is_decayed(variable):
                weights.assign_sub(weights * lost, read_value=False)
            tf.raw_ops.ResourceApplyAdam(
                var=weights.handle,
                m=self.means[id(variable)].handle,
                v=self.squares[id(variable)].handle,
                grad=gradient,
                **shared,
            )

    def _is_decayed(self, variable: keras.Variable) -> bool:
        """By its own name: the kernel of the patch embedding is a matrix as others are. A joint
        training's variables have the layer's name before it ("0:patch_embedding.kernel").
        """
        return not UNDECAYED.search(variable.name.rpartition(".")[2])

    def _average(self, variables: Sequence[keras.Variable]) -> None:
        # The first step's average is the weights themselves.
        share = tf.where(self.iterations.value == 0, 1.0, 1 - self.ema)
        for variable in variables:
            average = self.averages[id(variable)]
            average.assign_add(share * (variable.value - average), read_value=False)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """With `ema`: puts the averages in the variables' place."""
        if self.ema:
            for variable in var_list:
                variable.assign(self.averages[id(variable)])


class StackedMuon(FusedAdam):
    """Muon for the matrices of the blocks, AdamW without clipping for all else; as
    keras.optimizers.Muon.

    All matrices of a shape, or of its transpose, share one momentum (n, a, b), a <= b, and one
    Newton-Schulz iteration.
    """

    def __init__(
        self, weight_decay: float, ema: float = 0.0, precision: str = "float32", **options
    ):
        super().__init__(weight_decay=weight_decay, ema=ema, **options)
        self.precision = precision

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.momenta = {}  # by (a, b)
        for shape, members in self._by_shape(variables).items():
            count = sum(self._count(variable) for variable in members)
            self.momenta[shape] = self.add_variable((count, *shape), name=f"momentum_{shape}").value

    def _moments_of(self, variables: Sequence[keras.Variable]) -> list[keras.Variable]:
        return [variable for variable in variables if not self._is_muons(variable)]

    def _step(self, pairs: Sequence[tuple], rate: tf.Tensor) -> None:
        gradients = {id(variable): gradient for gradient, variable in pairs}
        matrices = [variable for _, variable in pairs if self._is_muons(variable)]
        super()._step([pair for pair in pairs if not self._is_muons(pair[1])], rate)

        for shape, members in self._by_shape(matrices).items():
            together = tf.concat([_wide(gradients[id(variable)]) for variable in members], 0)

            momentum = self.momenta[shape]
            momentum.assign(MOMENTUM * momentum + together, read_value=False)
            ahead = together + MOMENTUM * momentum  # Nesterov's
            updates = orthogonalised(ahead, self.precision) * (UPDATE_SCALE * shape[1] ** 0.5)

            counts = [self._count(variable) for variable in members]
            for variable, update in zip(members, tf.split(updates, counts), strict=True):
                if variable.shape[-2] > variable.shape[-1]:
                    update = tf.linalg.matrix_transpose(update)
                update = tf.reshape(update, variable.shape)
                if self.decay and self._is_decayed(variable):
                    update += self.decay * variable.value
                variable.value.assign_sub(rate * update, read_value=False)

    def _is_muons(self, variable: keras.Variable) -> bool:
        """Whether Muon takes it: a matrix of the blocks, or N models' in one."""
        rank = len(variable.shape) - (id(variable) in self.stacked)
        return rank == 2 and not BESIDE_THE_BLOCKS.search(variable.path)

    def _count(self, variable: keras.Variable) -> int:
        """Matrices in it."""
        return variable.shape[0] if id(variable) in self.stacked else 1

    def _by_shape(
        self, variables: Sequence[keras.Variable]
    ) -> dict[tuple[int, int], list[keras.Variable]]:
        """Muon's variables by the shape (a, b) or (b, a), a <= b, of their matrices."""
        found: dict[tuple[int, int], list[keras.Variable]] = {}
        for variable in variables:
            if self._is_muons(variable):
                a, b = sorted(variable.shape[-2:])
                found.setdefault((a, b), []).append(variable)
        return found


def _wide(matrices: tf.Tensor) -> tf.Tensor:
    """(n, a, b), a <= b: of one matrix or of several, or their transposes."""
    if matrices.shape.rank == 2:
        matrices = matrices[tf.newaxis]
    if matrices.shape[1] > matrices.shape[2]:
        return tf.linalg.matrix_transpose(matrices)
    return matrices


def orthogonalised(matrices: tf.Tensor, precision: str = "float32") -> tf.Tensor:
    """(n, a, b), a <= b: the nearest matrices with orthogonal rows, roughly; float32.

    Five steps of the quintic Newton-Schulz iteration, which brings every singular value to 0.7..1.2
    of one (Jordan et al. 2024), with products of `precision`.
    """
    norms = tf.sqrt(tf.reduce_sum(tf.square(matrices), axis=(1, 2), keepdims=True))
    x = tf.cast(matrices / (norms + 1e-7), precision)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = tf.matmul(x, x, transpose_b=True)  # (n, a, a)
        polynomial = third * square + fifth * tf.matmul(square, square)
        x = first * x + tf.matmul(polynomial, x)
    return tf.cast(x, tf.float32)


def clipped(
    gradients: Sequence[tf.Tensor], norm: float, stacked: Sequence[bool]
) -> list[tf.Tensor]:
    """Each scaled to that norm at most; of a stacked one each of its first axis."""
    halves = tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients])  # |g|^2 / 2
    scales = tf.unstack(norm / tf.maximum(tf.sqrt(2 * halves), norm))

    found = []
    for gradient, scale, is_stacked in zip(gradients, scales, stacked, strict=True):
        if is_stacked:
            inner = list(range(1, len(gradient.shape)))
            squares = tf.reduce_sum(tf.square(gradient), axis=inner, keepdims=True)
            scale = norm / tf.maximum(tf.sqrt(squares), norm)  # (N, 1, ...)
        found.append(gradient * scale)
    return found


def forget(used: keras.optimizers.Optimizer) -> None:
    """Moments, averages and step counter as before the first step."""
    for variable in used.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
