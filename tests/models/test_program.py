"""Instructions against the same sums done by numpy, for one environment and for many."""

import numpy as np
import pytest
import torch
from torch import nn

from worldmodel.errors import NotCompiled, ShapeError
from worldmodel.models.networks import compiled, compiled_positive, mlp, positive
from worldmodel.models.program import PANEL, Builder, Op
from worldmodel.world import interpreter

COUNTS = pytest.mark.parametrize("count", [1, 3, 16, 37])


def run(program, *inputs, stride=None):
    """Outputs (outputs, n) of a program on inputs (count, n); one by one where n is 1."""
    n = inputs[0].shape[1]
    stride = n if stride is None else stride
    # What is in registers that nobody wrote to must not matter.
    space = np.full(program.registers * stride + PANEL, np.nan, np.float32)
    registers = space[: program.registers * stride].reshape(-1, stride)
    for place, values in zip(program.inputs, inputs, strict=True):
        registers[place : place + len(values)] = 0
        registers[place : place + len(values), :n] = values
    weights = np.append(program.weights, np.zeros(PANEL, np.float32))
    interpreter.execute(program.code, weights, space, stride)
    return [registers[place:, :n] for place in program.outputs]


def both(build, *inputs, expected, rtol=1e-5, atol=1e-6):
    """Assert what instructions give, for all columns at once and for each alone."""
    builder = Builder()
    rows = build(builder, *(builder.input(len(values)) for values in inputs))
    program = builder.finish(rows)
    n = inputs[0].shape[1]
    (many,) = run(program, *inputs, stride=n + -n % interpreter.PAIR)
    assert rows.count == len(expected)
    np.testing.assert_allclose(many[: rows.count], expected, rtol, atol)
    for i in range(min(n, 3)):
        (one,) = run(program, *(values[:, i : i + 1] for values in inputs))
        np.testing.assert_allclose(one[: rows.count, 0], expected[:, i], rtol, atol)


@pytest.fixture
def draw():
    generator = np.random.default_rng(0)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


@COUNTS
@pytest.mark.parametrize("rows", [1, 2, 4, 7, 16, 19, 64])
@pytest.mark.parametrize("relu", [False, True])
def test_linear(draw, count, rows, relu):
    matrix, bias, x = draw(rows, count), draw(rows), draw(count, 50)
    expected = matrix.astype(float) @ x + bias[:, None]
    expected = np.maximum(expected, 0) if relu else expected
    both(lambda b, x: b.linear(x, matrix, bias, relu), x, expected=expected, atol=1e-5)


@COUNTS
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softplus", lambda x: np.logaddexp(x, 0)),
        ("sqrt", lambda x: np.sqrt(np.abs(x))),
        ("softmax", lambda x: np.exp(x - x.max(0)) / np.exp(x - x.max(0)).sum(0)),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_functions_of_registers(draw, count, name, function, scale):
    x = scale * draw(count, 40)
    if name == "sqrt":
        x = np.abs(x)
    with np.errstate(over="ignore", under="ignore"):
        expected = function(x.astype(np.float64))
    both(lambda b, x: getattr(b, name)(x), x, expected=expected, rtol=3e-6, atol=3e-7)


@COUNTS
def test_arithmetic(draw, count):
    a, b, low, high = draw(count, 40), draw(count, 40), draw(count), draw(count) + 3
    near, c = draw(1, 40) ** 2, draw(count, 40)
    near[0, :3] = 0.5, 2.0, np.nan
    both(lambda p, x, y: p.add(x, y), a, b, expected=a + b)
    both(lambda p, x, y: p.multiply(x, y), a, b, expected=a * b)
    both(lambda p, x: p.affine(x, low, high), a, expected=a * low[:, None] + high[:, None])
    both(lambda p, x: p.affine(x, 2.0, 1.0), a, expected=2 * a + 1)
    both(lambda p, x, y: p.greater(x, y), a, b, expected=np.maximum(a, b))
    clipped = np.clip(a, low[:, None], high[:, None])
    both(lambda p, x: p.clamp(x, low, high), a, expected=clipped)
    both(lambda p, x, y: p.join(y, x, y), a, b, expected=np.concatenate([b, a, b]))
    chosen = np.where(near <= 1, a, c)
    both(lambda p, d, x, y: p.select(d, x, y), near, a, c, expected=chosen)


def test_neighbours_are_joined_without_a_copy(draw):
    x, y = draw(7, 40), draw(2, 40)
    builder = Builder()
    a, b, c = builder.input(7).split(2, 4, 1)
    assert builder.join(a, b) == builder.join(builder.join(a, b)) != builder.join(b, a)
    program = builder.finish(builder.join(a, builder.join(b, c)))
    assert len(program.code) == 0

    def scaled(builder, x, y, matrix=None):
        a, b, c = x.split(2, 4, 1)
        whole = builder.join(a, builder.affine(b, 2.0, 0.5), c, builder.affine(y, -1.0))
        return whole if matrix is None else builder.linear(whole, matrix)

    expected = np.concatenate([x[:2], 2 * x[2:6] + 0.5, x[6:], -y])
    both(scaled, x, y, expected=expected)
    matrix = draw(3, 9)
    both(lambda p, *v: scaled(p, *v, matrix), x, y, expected=matrix @ expected, atol=1e-5)
    builder = Builder()
    rows = builder.input(7), builder.input(2)
    # Scaled on the way; and what is only multiplied by a matrix is not even that.
    kinds = [builder.finish(scaled(builder, *rows, m)).code[:, 0].tolist() for m in (None, matrix)]
    assert kinds == [[Op.AFFINE, Op.AFFINE], [Op.COPY, Op.COPY, Op.LINEAR]]


def test_what_goes_number_by_number_in_part_of_a_range_spoils_no_other_part(draw):
    x = draw(6, 40)

    def build(builder, x):
        first = builder.tanh(builder.linear(x, np.eye(6)))
        head, tail = first.split(4, 2)
        return builder.join(builder.affine(tail, 3.0), builder.affine(head, 2.0))

    expected = np.concatenate([3 * np.tanh(x[4:]), 2 * np.tanh(x[:4])])
    both(build, x, expected=expected)


@COUNTS
@pytest.mark.parametrize("rows", [1, 3, 18])
def test_contractions(draw, count, rows):
    matrix, x, start = draw(count, rows, 40), draw(count, 40), draw(rows, 40)
    product = np.einsum("kri,ki->ri", matrix.astype(float), x)
    flat = matrix.reshape(-1, 40)
    both(lambda b, m, x: b.contract(m, x), flat, x, expected=product, atol=1e-5)
    both(lambda b, *v: b.contract(*v), flat, x, start, expected=product + start, atol=1e-5)


@pytest.mark.parametrize("points", [5, 16, 300])
def test_distances_decide_what_is_near(draw, points):
    known, x = 5 * draw(points, 3), 6 * draw(3, 200)
    expected = np.square(known[:, :, None] - x).sum(1).min(0)
    builder = Builder()
    rows = builder.input(3)
    program = builder.finish(builder.nearest(rows, known))
    many = run(program, x, stride=224)[0][0]
    ones = np.array([run(program, x[:, i : i + 1])[0][0, 0] for i in range(200)])
    for found in (many, ones):
        np.testing.assert_array_equal(found <= 1, expected <= 1)
        np.testing.assert_allclose(found[expected > 1.01], expected[expected > 1.01], rtol=1e-3)
    for bad in (np.nan, np.inf, -np.inf):
        x[1, 7] = bad
        assert not run(program, x, stride=224)[0][0, 7] <= 1
        assert not run(program, x[:, 7:8])[0][0, 0] <= 1


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.Tanh, nn.Sigmoid])
def test_networks(draw, depth, activation):
    network = mlp(5, 20, 3, activation, depth)
    for parameter in network.parameters():
        parameter.data.add_(0.1)
    x, scale = draw(5, 40), torch.tensor([2.0, -1.0, 0.5])
    with torch.no_grad():
        out = network(torch.from_numpy(x.T)) * scale + 3
        scaled = positive(out)
    both(lambda b, x: compiled(network, b, x, scale, 3.0), x, expected=out.T.numpy(), atol=1e-5)
    both(
        lambda b, x: compiled_positive(b, compiled(network, b, x, scale, 3.0)),
        x,
        expected=scaled.T.numpy(),
        atol=1e-5,
    )


def test_a_layer_without_a_compiled_form_is_named():
    builder = Builder()
    with pytest.raises(NotCompiled, match="Conv2d"):
        compiled(nn.Sequential(nn.Conv2d(1, 1, 3)), builder, builder.input(9))


@pytest.mark.parametrize("op", ["relu", "silu", "tanh", "sigmoid", "softplus", "softmax"])
def test_what_is_not_a_number_stays_so(op):
    x = np.float32([[0.5, np.nan], [0.1, 0.2]])
    builder = Builder()
    rows = getattr(builder, op)(builder.input(2))
    program = builder.finish(builder.clamp(builder.linear(rows, np.eye(2)), -1.0, 1.0))
    many, one = run(program, x, stride=32)[0], run(program, x[:, 1:])[0]
    assert np.isfinite(many[:2, 0]).all()
    assert np.isnan(many[0, 1]) and np.isnan(one[0, 0])


def test_the_greater_of_what_is_not_a_number_is_none():
    builder = Builder()
    rows = builder.greater(builder.input(1), builder.input(1))
    program = builder.finish(rows)
    x, y = np.float32([[np.nan, 1, 2]]), np.float32([[1, np.nan, 1]])
    np.testing.assert_array_equal(run(program, x, y, stride=32)[0][0], [np.nan, np.nan, 2])


def test_nothing_is_computed_twice_or_in_vain():
    builder = Builder()
    x = builder.input(3)
    matrix = np.ones((4, 3))
    first = builder.silu(builder.linear(x, matrix))
    builder.tanh(first)
    again = builder.silu(builder.linear(x, matrix.copy()))
    assert first == again
    program = builder.finish(builder.add(first, again))
    assert program.code[:, 0].tolist() == [Op.LINEAR, Op.SILU, Op.ADD]
    assert len(program.weights) == 1 + 4 * 4


def test_registers_are_used_again(draw):
    matrix, x = draw(50, 50) / 7, draw(50, 40)

    def deep(builder, rows, layers=6):
        for layer in range(layers):
            rows = builder.add(rows, builder.tanh(builder.linear(rows, matrix + 0.01 * layer)))
        return rows

    expected = x.astype(np.float64)
    for layer in range(6):
        expected = expected + np.tanh((matrix + 0.01 * layer) @ expected)
    both(deep, x, expected=expected, atol=1e-4, rtol=1e-4)
    builder = Builder()
    assert builder.finish(deep(builder, builder.input(50))).registers < 5 * (50 + PANEL)


def test_registers_must_fit():
    builder = Builder()
    x, y = builder.input(3), builder.input(4)
    for wrong in (
        lambda: builder.add(x, y),
        lambda: builder.linear(x, np.ones((2, 4))),
        lambda: builder.contract(y, x),
        lambda: builder.gram(y, 3),
        lambda: x.split(1, 1),
    ):
        with pytest.raises(ShapeError):
            wrong()


@pytest.mark.parametrize(("sources", "latent"), [(1, 1), (3, 3), (2, 5), (12, 6)])
def test_a_correction_is_bayes_rule(draw, sources, latent):
    spread, scale = draw(sources, latent, 40), np.abs(draw(latent, 40)) + 0.1
    pull, eye = draw(latent, 40), np.eye(latent)
    prior = np.einsum("nli,nmi->ilm", spread, spread).astype(np.float64)
    total = prior + np.square(scale.T)[..., None] * eye
    total += 1e-6 * np.trace(total, axis1=1, axis2=2)[:, None, None] * eye
    gain = np.linalg.solve(total, prior)
    mean = np.einsum("ilm,li->im", gain, pull)
    left = np.diagonal(prior - prior @ gain, axis1=1, axis2=2)
    width = np.sqrt(np.maximum(left, 1e-6 * np.diagonal(prior, axis1=1, axis2=2)))
    both(
        lambda b, *v: b.join(*b.correct(*v)),
        spread.reshape(-1, 40),
        scale,
        pull,
        expected=np.concatenate([mean.T, width.T]),
        rtol=2e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize(("count", "size"), [(1, 5), (3, 16), (4, 37)])
def test_a_gram_matrix_is_of_all_pairs(draw, count, size):
    rows = draw(count, size, 40)
    both(
        lambda b, x: b.gram(x, count),
        rows.reshape(-1, 40),
        expected=np.einsum("rki,cki->rci", rows, rows).reshape(-1, 40),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(("sources", "latent"), [(1, 1), (3, 3), (12, 5)])
def test_a_refinement_is_the_least_of_what_is_known(draw, sources, latent):
    spread, scale = draw(sources, latent, 40), np.abs(draw(latent, 40)) + 0.3
    pull, apart, slopes = draw(latent, 40), draw(latent, 40), draw(latent + 1, 7, 40)
    eye, told = np.eye(latent), np.einsum("rki,cki->irc", slopes, slopes)
    prior = np.einsum("nli,nmi->ilm", spread, spread).astype(np.float64)
    prior += 1e-6 * np.trace(prior, axis1=1, axis2=2)[:, None, None] * eye
    expected = []
    for p, s, m, x, t in zip(prior, scale.T, pull.T, apart.T, told, strict=True):
        total = np.linalg.inv(p) + np.diag(1 / s**2) + t[:-1, :-1]
        step = np.linalg.solve(total, m / s**2 + t[:-1, -1] - np.linalg.solve(p, x))
        distances = [y @ np.linalg.solve(p, y) + np.square((m - x0) / s).sum()
                     for y, x0 in ((x + step, step), (x, 0))]  # fmt: skip
        width = np.sqrt(np.diagonal(np.linalg.inv(total)))
        expected.append([*step, *width, distances[0] - distances[1]])
    both(
        lambda b, *v: b.join(*b.refine(*v)),
        spread.reshape(-1, 40),
        scale,
        pull,
        apart,
        told.reshape(40, -1).T.copy(),
        expected=np.array(expected).T,
        rtol=5e-3,
        atol=5e-3,
    )


def test_constants_and_logarithms(draw):
    x = np.abs(draw(5, 40)) + 1e-6
    both(lambda b, x: b.log(x), x, expected=np.log(x))
    values = draw(20)
    both(lambda b, x: b.constant(values), x, expected=np.repeat(values[:, None], 40, 1))
