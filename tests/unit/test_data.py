"""Data sets, loaders and transforms: the order, its place in a checkpoint, workers that fail, random choices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import corelib
from corelib import data, random
from corelib.data import transforms
from corelib.errors import ArgumentError, CheckpointError, IndexOutOfBoundsError, ShapeError

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)


class Squares(data.Dataset):
    """(i, i * i), and mischief at some index. At module level, so that it can be pickled."""

    def __init__(self, size=20, at=-1, how="raise"):
        self.size, self.at, self.how = size, at, how

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == self.at:
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "odd":
                raise Odd(index, "two arguments")
            raise ValueError("a broken file")
        return index, float(index * index)


class Odd(Exception):  # noqa: N818 - what somebody wrote
    def __init__(self, one, two):
        super().__init__(one)


class Noise(Squares):
    """Samples drawn at random."""

    def __getitem__(self, index):
        shift = transforms.RandomShift(1)
        return index, shift(np.arange(9.0).reshape(1, 3, 3) + 1)


def values(batches):
    return [[part.tolist() for part in batch] for batch in batches]


def samples(loader):
    return [i for batch in loader for i in batch[0].tolist()]


# -- data sets ---------------------------------------------------------------------------------------------------


@on_each
def test_a_tensor_dataset_takes_batches_where_its_tensors_are(device):
    x = corelib.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], device=device)
    dataset = data.TensorDataset(x, corelib.asarray([7, 8, 9], device=device))
    assert [part.tolist() for part in dataset[1]] == [[3.0, 4.0], 8]
    batches = list(data.DataLoader(dataset, 2))
    assert [part.device for part in batches[0]] == [device] * 2
    assert values(batches) == [[[[1.0, 2.0], [3.0, 4.0]], [7, 8]], [[[5.0, 6.0]], [9]]]
    part = data.Subset(dataset, [2, 0])
    assert values(data.DataLoader(part, 2)) == [[[[5.0, 6.0], [1.0, 2.0]], [9, 7]]]


def test_data_sets_are_put_together_and_split():
    both = Squares(3) + Squares(2)
    assert [both[i][0] for i in range(len(both))] == [0, 1, 2, 0, 1]
    assert both[-1] == (1, 1.0)
    with pytest.raises(IndexOutOfBoundsError, match="no sample 5 of 5"):
        both[5]
    for lengths in ([6, 4], [0.6, 0.4]):
        one, two = data.random_split(Squares(10), lengths, random.Generator(0))
        assert (len(one), len(two)) == (6, 4)
        assert sorted(one.indices + two.indices) == list(range(10))
    assert [len(p) for p in data.random_split(Squares(10), [0.33, 0.33, 0.34])] == [4, 3, 3]
    again = data.random_split(Squares(10), [6, 4], random.Generator(0))
    assert again[0].indices == data.random_split(Squares(10), [6, 4], random.Generator(0))[0].indices


# -- order -------------------------------------------------------------------------------------------------------


def test_batches_without_shuffling():
    batches = values(data.DataLoader(Squares(5), 2))
    assert batches == [[[0, 1], [0.0, 1.0]], [[2, 3], [4.0, 9.0]], [[4], [16.0]]]
    loader = data.DataLoader(Squares(5), 2, drop_last=True)
    assert (len(loader), len(list(loader))) == (2, 2)


def test_shuffling_is_a_permutation_from_the_generator_new_in_each_epoch():
    loaders = [data.DataLoader(Squares(50), 8, shuffle=True, generator=random.Generator(3)) for _ in "ab"]
    first, second = samples(loaders[0]), samples(loaders[0])
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert [samples(loaders[1]), samples(loaders[1])] == [first, second]
    random.seed(5)
    one = samples(data.DataLoader(Squares(50), 8, shuffle=True))
    random.seed(5)
    assert samples(data.DataLoader(Squares(50), 8, shuffle=True)) == one


def test_the_order_is_the_same_on_every_backend():
    orders = []
    for device in ("reference", "cpu"):
        with corelib.use_backend(device):
            loader = data.DataLoader(Squares(50), 8, shuffle=True, generator=random.Generator(3))
            orders.append(samples(loader))
    assert orders[0] == orders[1]


@pytest.mark.parametrize("stop", [0, 1, 3, 7])
def test_a_saved_position_goes_on_in_the_middle_of_an_epoch(stop):
    def make(seed):
        return data.DataLoader(Noise(23), 3, shuffle=True, generator=random.Generator(seed))

    loader = make(1)
    list(loader)
    iterator = iter(loader)
    for _ in range(stop):
        next(iterator)
    state = json.loads(json.dumps(loader.state_dict()))
    rest, after = values(iterator), values(loader)
    other = make(99)
    other.load_state_dict(state)
    assert len(rest) == 8 - stop
    assert (values(other), values(other)) == (rest, after)
    assert other.epoch == loader.epoch == 3
    assert other.state_dict() == loader.state_dict()


def test_an_epoch_that_was_left_begins_anew():
    loader = data.DataLoader(Squares(10), 2)
    next(iter(loader))
    assert samples(loader) == list(range(10))


def test_default_collate():
    samples = [({"x": np.ones(2), "name": "a"}, [1, 2.5]), ({"x": np.zeros(2), "name": "b"}, [3, 4.5])]
    found, (first, second) = data.default_collate(samples)
    assert found["x"].tolist() == [[1, 1], [0, 0]]
    assert found["name"] == ["a", "b"]
    assert (first.tolist(), second.tolist()) == ([1, 3], [2.5, 4.5])


# -- workers -----------------------------------------------------------------------------------------------------


def test_workers_make_the_same_batches_and_go_on_from_the_same_place():
    def make(workers):
        return data.DataLoader(Noise(11), 2, shuffle=True, generator=random.Generator(2), num_workers=workers)

    alone, crowd = make(0), make(2)
    try:
        assert values(crowd) == values(alone)
        iterator = iter(crowd)
        first = next(iterator)  # of which the workers are ahead
        state = crowd.state_dict()
        rest = values([first, *iterator])
        assert rest == values(alone)
        other = make(0)
        other.load_state_dict(state)
        assert values(other) == rest[1:]
        processes = list(crowd._pool.processes)
        assert len(processes) == 2
        assert all(p.is_alive() for p in processes)  # they serve the next epoch as well
    finally:
        crowd.close()
    assert not any(p.is_alive() for p in processes)


def test_a_worker_that_raises_names_the_sample():
    loader = data.DataLoader(Squares(9, at=5), 2, num_workers=1)
    with pytest.raises(ValueError, match="a broken file") as caught:
        list(loader)
    notes = "\n".join(caught.value.__notes__)
    assert "while sample 5 of Squares was read" in notes
    assert "in worker 0, batch 2, sample 5" in notes
    assert loader._pool is None  # nobody is left behind
    with pytest.raises(ValueError, match="a broken file") as caught:
        list(data.DataLoader(Squares(9, at=5), 2))
    assert caught.value.__notes__ == ["while sample 5 of Squares was read"]


def test_an_exception_that_cannot_be_sent_is_told_in_words():
    with pytest.raises(data.WorkerError, match=r"in worker 0, batch 1, sample 2: .*Odd: 2"):
        list(data.DataLoader(Squares(3, at=2, how="odd"), 2, num_workers=1))


def test_a_worker_that_dies_names_the_sample_it_had_reached():
    loader = data.DataLoader(Squares(9, at=4, how="die"), 2, num_workers=1)
    with pytest.raises(
        data.WorkerError, match=r"worker 0 .* ended by signal SIGKILL before batch . was made; it had reached sample 4"
    ):  # fmt: skip
        list(loader)
    assert loader._pool is None


def test_a_data_set_that_cannot_be_pickled_says_so():
    loader = data.DataLoader([lambda: 0] * 3, 1, num_workers=1)
    with pytest.raises(Exception, match=r"pickle|local object") as caught:
        list(loader)
    assert "data set and collate_fn have to be pickled" in caught.value.__notes__[0]


@pytest.mark.skipif(os.name != "posix", reason="signals of another process")
def test_an_interrupt_ends_the_workers(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(
        textwrap.dedent("""
        import signal, time
        from corelib import data

        class Slow:
            def __len__(self): return 1000
            def __getitem__(self, i): time.sleep(0.02); return i

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            loader = data.DataLoader(Slow(), 4, num_workers=2)
            try:
                for number, batch in enumerate(loader):
                    if not number:
                        print(*[p.pid for p in loader._pool.processes], flush=True)
            except KeyboardInterrupt:
                print("interrupted", loader._pool, flush=True)
        """),
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err) == ("interrupted None\n", "")
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its loader"
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- transforms --------------------------------------------------------------------------------------------------


def images(device="reference"):
    return corelib.reshape(corelib.arange(1, 1 + 4 * 2 * 3 * 5, dtype="float32", device=device), (4, 2, 3, 5))


@on_each
def test_transforms_of_a_batch(device):
    x = images(device)
    normal = transforms.Normalize([1.0, 2.0], [2.0, 4.0])(x).numpy()
    expected = (x.numpy() - np.array([1, 2]).reshape(2, 1, 1)) / np.array([2, 4]).reshape(2, 1, 1)
    np.testing.assert_array_equal(normal, expected.astype("float32"))
    flipped = transforms.RandomHorizontalFlip(0.5, random.Generator(2))(x).numpy()
    whole = [np.array_equal(a, b) for a, b in zip(flipped, x.numpy(), strict=True)]
    mirror = [np.array_equal(a, b[..., ::-1]) for a, b in zip(flipped, x.numpy(), strict=True)]
    assert [a != b for a, b in zip(whole, mirror, strict=True)] == [True] * 4
    assert 0 < sum(whole) < 4  # with this seed
    np.testing.assert_array_equal(transforms.RandomVerticalFlip(1.0)(x).numpy(), x.numpy()[:, :, ::-1])


@on_each
def test_crops_are_parts_of_the_padded_image(device):
    x = images(device)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    found = transforms.RandomCrop((2, 4), padding=1, fill=-1, generator=random.Generator(0))(x).numpy()
    assert found.shape == (4, 2, 2, 4)
    places = []
    for image, part in zip(padded, found, strict=True):
        here = [
            (i, j) for i in range(4) for j in range(4) if np.array_equal(image[:, i : i + 2, j : j + 4], part)
        ]
        assert len(here) == 1
        places += here
    assert len(set(places)) > 1
    assert transforms.RandomShift(0)(x).tolist() == x.tolist()
    assert transforms.RandomShift(2)(x).shape == x.shape


def test_random_choices_are_the_same_on_every_backend_and_come_from_the_seed():
    chain = transforms.Compose([transforms.RandomShift(1), transforms.RandomHorizontalFlip()])
    found = []
    for device in ("reference", "cpu"):
        random.seed(7)
        found.append(chain(images(device)).tolist())
    assert found[0] == found[1]
    assert repr(chain) == "Compose([RandomShift(1), RandomHorizontalFlip(0.5)])"


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: data.DataLoader([], 2), ArgumentError, "list has no samples"),
        (lambda: data.DataLoader(Squares(3), 0), ArgumentError, "batch_size must be an integer of at least 1, got 0"),
        (lambda: data.DataLoader(Squares(3), 2.0), ArgumentError, "batch_size must be an integer of at least 1, got 2.0"),
        (lambda: data.DataLoader(Squares(3), 2, num_workers=-1), ArgumentError, "num_workers must be an integer of at least 0"),
        (lambda: data.DataLoader(Squares(3), 4, drop_last=True), ArgumentError, "3 samples make no whole batch of 4"),
        (lambda: data.TensorDataset(), ArgumentError, "got no tensors"),
        (lambda: data.TensorDataset(corelib.ones(2), corelib.ones(3)), ShapeError, "the tensors have 2, 3 samples"),
        (lambda: data.TensorDataset(corelib.asarray(1.0)), ShapeError, "tensor 0 has no axis"),
        (lambda: data.random_split(Squares(5), [2, 2]), ArgumentError, "numbers of samples that sum to 5, or fractions that sum to 1"),
        (lambda: data.random_split(Squares(5), [0.5, 0.4]), ArgumentError, r"got \[0.5, 0.4\]"),
        (lambda: transforms.Normalize(0.0, 0.0), ArgumentError, "std must not be 0"),
        (lambda: transforms.Normalize([1, 2, 3], 1.0)(images()), ShapeError, r"3 numbers for the 2 channels of \(4, 2, 3, 5\)"),
        (lambda: transforms.RandomCrop(4)(images()), ShapeError, r"a part of \(4, 4\) does not fit the image of shape \(4, 2, 3, 5\)"),
        (lambda: transforms.RandomCrop(0), ArgumentError, "size must be positive"),
        (lambda: transforms.RandomHorizontalFlip(1.5), ArgumentError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: transforms.RandomVerticalFlip()(np.ones((2, 2))), ShapeError, r"needs images .*, got shape \(2, 2\)"),
    ],
)  # fmt: skip
def test_mistakes_are_named(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_a_state_of_other_batches_is_refused():
    state = data.DataLoader(Squares(9), 2, shuffle=True).state_dict()
    with pytest.raises(CheckpointError, match="the DataLoader has samples=8, the state has samples=9"):
        data.DataLoader(Squares(8), 2, shuffle=True).load_state_dict(state)
    with pytest.raises(CheckpointError, match="has batch_size=3, the state has batch_size=2"):
        data.DataLoader(Squares(9), 3, shuffle=True).load_state_dict(state)
    del state["key"]
    with pytest.raises(CheckpointError, match="a DataLoader needs epoch, batch, key"):
        data.DataLoader(Squares(9), 2, shuffle=True).load_state_dict(state)
