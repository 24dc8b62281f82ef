import math

import pytest
import torch

from agents.empowerment import blahut_arimoto, sequence_channel
from worldmodel.errors import ConvergenceError, ShapeError

BIT = math.log(2)


def symmetric(p):
    return torch.tensor([[1 - p, p], [p, 1 - p]])


def test_binary_symmetric_channels_at_once():
    capacity = blahut_arimoto(torch.stack([symmetric(0.1), symmetric(0.2), symmetric(0.5)]))
    torch.testing.assert_close(
        capacity / BIT, torch.tensor([0.531, 0.278, 0.0], dtype=torch.float64), atol=5e-4, rtol=0
    )


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_binary_erasure_and_z_channels(p):
    erasure = torch.tensor([[1 - p, p, 0], [0, p, 1 - p]])
    assert blahut_arimoto(erasure) / BIT == pytest.approx(1 - p, abs=1e-4)
    z = torch.tensor([[1.0, 0.0], [p, 1 - p]])
    expected = math.log2(1 + (1 - p) * p ** (p / (1 - p)))
    assert blahut_arimoto(z) / BIT == pytest.approx(expected, abs=1e-4)


def test_a_deterministic_channel_carries_the_number_of_outcomes():
    channel = torch.eye(5)[[0, 3, 3, 4, 0, 0]]
    assert blahut_arimoto(channel) == pytest.approx(math.log(3), abs=1e-4)


def test_what_is_returned_is_a_lower_bound_within_the_tolerance():
    channel = (3 * torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(0))).softmax(-1)
    rough, fine = blahut_arimoto(channel, 1e-2), blahut_arimoto(channel, 1e-5)
    assert (rough <= fine + 1e-5).all() and (fine - rough <= 1e-2).all()


def test_what_is_no_channel_is_refused():
    for bad in (torch.ones(2, 2), torch.tensor([[1.5, -0.5]])):
        with pytest.raises(ShapeError, match="rows >= 0"):
            blahut_arimoto(bad)


def test_too_few_iterations_say_how_far_they_came():
    with pytest.raises(ConvergenceError, match=r"after 3 iterations.*1e-12"):
        blahut_arimoto(torch.tensor([[1.0, 0.0], [0.3, 0.7]]), 1e-12, 3)


def grid_world(size, wall):
    """Stay, or go one cell unless the edge or a wall is there: p(s' | s, a)."""
    cells = [(x, y) for x in range(size) for y in range(size) if (x, y) not in wall]
    index = {cell: i for i, cell in enumerate(cells)}
    moves = torch.zeros(5, len(cells), len(cells))
    for a, (dx, dy) in enumerate([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]):
        for (x, y), i in index.items():
            moves[a, i, index.get((x + dx, y + dy), i)] = 1
    return moves


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_in_a_maze_it_counts_the_cells_in_reach(steps):
    moves = grid_world(5, wall={(2, 1), (2, 2), (2, 3)})
    capacity = blahut_arimoto(sequence_channel(moves, steps))
    once = moves.amax(0)
    reach = torch.linalg.matrix_power(once, steps) > 0
    torch.testing.assert_close(
        capacity, reach.sum(1).double().log(), atol=1e-4, rtol=0, check_dtype=False
    )


def test_a_discretised_pendulum_is_most_empowered_upright():
    """With torque too weak to lift it, only the top is reached from by both sides."""
    angles = torch.linspace(-math.pi, math.pi, 42)[:-1]
    speeds = torch.linspace(-6, 6, 41)
    angle, speed = torch.meshgrid(angles, speeds, indexing="ij")
    moves = []
    for torque in (-5.0, 0.0, 5.0):
        after_speed = (speed + 0.1 * (9.81 * angle.sin() - 0.5 * speed + torque)).clamp(-6, 6)
        after = angle + 0.1 * after_speed
        turn = torch.remainder(after + math.pi, 2 * math.pi) / (2 * math.pi) * 41
        rate = (after_speed + 6) / 12 * 40
        cell = (turn.round().long() % 41) * 41 + rate.round().long()
        moves.append(torch.nn.functional.one_hot(cell.flatten(), 41 * 41).float())
    capacity = blahut_arimoto(_from(moves, 41 * 41, [20 * 41 + 20, 20], steps=6))
    assert capacity[0] > capacity[1] + 0.02


def _from(moves, states, starts, steps):
    reached = torch.eye(states)[starts].unsqueeze(1)
    for _ in range(steps):
        reached = torch.stack([reached @ move for move in moves], 2).flatten(1, 2)
    return reached
