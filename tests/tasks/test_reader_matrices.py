import pytest
import torch
import torch.nn.functional as functional

from spinecls.tasks.loose_tasks import ReaderMatrices, said_log_probabilities
from spinecls.tasks.losses import belief_loss

LOG_P = functional.log_softmax(torch.tensor([[0.2, -1.0, 1.5], [0.0, 0.3, -0.7]]), 1)


def test_columns_are_probabilities_of_what_is_said():
    assert torch.allclose(ReaderMatrices(2, 3, ordinal=False)().sum(dim=1), torch.ones(2, 3))


def test_readers_start_as_nearly_always_right():
    diagonal = ReaderMatrices(2, 3, ordinal=False)().diagonal(dim1=1, dim2=2)
    assert diagonal.min().item() == pytest.approx(0.965, abs=0.001)


def test_of_grades_a_reader_errs_by_one_at_most():
    matrices = ReaderMatrices(1, 4, ordinal=True)()[0]
    assert matrices[0, 2].item() == 0
    assert matrices[3, 1].item() == 0
    assert matrices[1, 0].item() > 0


def test_what_a_reader_says_is_the_matrix_times_what_is_true():
    torch.manual_seed(0)
    matrices = torch.softmax(torch.randn(2, 3, 3), dim=1)
    readers = torch.tensor([[0, 1], [1, -1]])
    said = said_log_probabilities(LOG_P, matrices, readers).exp()
    p = LOG_P.exp()
    first, second = [matrices[0] @ p[0], matrices[1] @ p[0]], [matrices[1] @ p[1], p[1]]
    assert torch.allclose(said, torch.stack([torch.stack(first), torch.stack(second)]), atol=1e-6)


def test_matrices_of_readers_who_err_are_recovered_with_the_classes():
    """Three readers of known accuracy over items whose features tell the class, at the rate that trainers use."""
    generator = torch.Generator().manual_seed(0)
    count, accuracy = 2000, torch.tensor([0.95, 0.8, 0.6])
    truth = torch.randint(0, 3, (count,), generator=generator)
    features = 2 * functional.one_hot(truth, 3) + torch.randn((count, 3), generator=generator)
    wrong = (truth[:, None] + torch.randint(1, 3, (count, 3), generator=generator)) % 3
    said = torch.where(torch.rand((count, 3), generator=generator) < accuracy, truth[:, None], wrong)
    network, matrices = torch.nn.Linear(3, 3), ReaderMatrices(3, 3, ordinal=False)
    rates = [{"params": network.parameters(), "lr": 0.05}, {"params": matrices.parameters(), "lr": 0.001}]
    optimiser = torch.optim.AdamW(rates, weight_decay=1e-2)
    readers = torch.arange(3).expand(count, 3)
    sets, masses = functional.one_hot(said, 3).bool(), torch.full((count, 3), 1 / 3)
    for _ in range(300):
        optimiser.zero_grad()
        found = said_log_probabilities(functional.log_softmax(network(features), 1), matrices(), readers)
        loss = belief_loss(found, sets, masses) + 0.01 * matrices().diagonal(dim1=1, dim2=2).mean(dim=1).sum()
        loss.backward()
        optimiser.step()
    quality = matrices().diagonal(dim1=1, dim2=2).mean(dim=1)
    assert quality.detach().numpy() == pytest.approx(accuracy.numpy(), abs=0.05)
