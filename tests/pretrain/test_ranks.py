import subprocess
import sys

import torch
import torch.distributed as dist

from lvd_pretrain.centering import Center
from lvd_pretrain.losses import ibot_loss
from lvd_pretrain.ranks import AnyRank, LateFlag, all_reduce_max, all_reduce_sum, world_size
from lvd_pretrain.scores import Scores
from lvd_pretrain.sinkhorn import factored_sinkhorn_knopp, sinkhorn_knopp

ROWS = (5, 0)  # unequal counts, one rank without any


def logits() -> torch.Tensor:
    return torch.rand(sum(ROWS), 7, generator=torch.Generator().manual_seed(0)) * 2 - 1


def factored(mine: slice) -> dict[str, torch.Tensor]:
    """Targets, centre and the sum of losses' gradients of some of the rows, without a dense matrix."""
    features, weight, student = (
        torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (sum(ROWS), 7, sum(ROWS) + 1)
    )
    scores, prototypes = Scores(features[mine], weight), (weight + 0.1).requires_grad_()
    targets = factored_sinkhorn_knopp(scores, 0.05, 3)
    rows = len(targets.rows)
    ibot_loss(targets, Scores(student[:-1][mine], prototypes), torch.ones(rows), 1, 0.1).backward()
    center = Center(7, 0.9)
    center.factored(scores, 0.05)
    return {"targets": targets.dense(), "gradient": prototypes.grad, "center": center.value}


def one_rank(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mine = logits().split(ROWS)[rank]
    center = Center(7, 0.9)
    center(mine, 0.05)
    values = torch.tensor([1.0 + rank, -rank])
    anyone = AnyRank(torch.device("cpu"))
    torch.save(
        {
            "sinkhorn": sinkhorn_knopp(mine, 0.05, 3),
            "center": center.value,
            "factored": factored(slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], None)),
            "sum": all_reduce_sum(values),
            "max": all_reduce_max(values),
            "values": values,
            "anyone": [anyone(rank == 1 and step == 1) for step in range(4)],
        },
        f"{out}/{rank}.pt",
    )
    dist.destroy_process_group()


def test_two_ranks_with_unequal_rows_equal_one_process(tmp_path):
    words = [str(tmp_path / "store"), str(tmp_path)]
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), *words]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    together = torch.cat([state["sinkhorn"] for state in states])
    assert torch.allclose(together, sinkhorn_knopp(logits(), 0.05, 3), atol=1e-6)
    alone, (first, second) = factored(slice(None)), [state["factored"] for state in states]
    assert torch.allclose(torch.cat([first["targets"], second["targets"]]), alone["targets"], atol=1e-5)
    assert torch.allclose(first["gradient"] + second["gradient"], alone["gradient"], atol=1e-5)
    assert torch.allclose(first["center"], alone["center"], atol=1e-6)
    assert torch.equal(first["center"], second["center"])
    center = Center(7, 0.9)
    center(logits(), 0.05)
    for rank, state in enumerate(states):
        assert torch.allclose(state["center"], center.value, atol=1e-6)
        assert state["sum"].tolist() == [3.0, -1.0]
        assert state["max"].tolist() == [2.0, 0.0]
        assert state["values"].tolist() == [1.0 + rank, -rank]
        assert state["anyone"] == [False, False, True, False]  # the second rank's answer, a step late


def test_a_single_process_is_its_own_world():
    x = torch.ones(2)
    assert world_size() == 1
    assert all_reduce_sum(x) is x
    anyone = AnyRank(torch.device("cpu"))
    assert [anyone(flag) for flag in (False, True, False)] == [False, True, False]


def test_a_late_flag_is_read_a_step_later_or_when_asked_for_and_once():
    flag: LateFlag[int] = LateFlag()
    said = [flag.put(torch.tensor(step in (1, 3)), step) for step in range(4)]
    assert said == [None, None, 1, None]
    assert flag.settle() == 3
    assert flag.settle() is None


if __name__ == "__main__":
    one_rank(int(sys.argv[1]), *sys.argv[2:])
