"""Laws of models/translate.py."""

import argparse
import shlex
import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxmoust.models.translate import FROM_TORCH, as_it_is, kernel, read_arrays, translate, unwrapped

TEMPLATE = jax.eval_shape(lambda: {"a": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2, jnp.bfloat16)}})


def rule(name: str):
    """Our a/kernel is their a.weight."""
    if name.endswith("kernel"):
        return ["a.weight"], kernel
    return ["a.bias"], as_it_is


def test_leaves_have_the_values_of_the_file_and_the_dtypes_of_the_template():
    weight = np.arange(6.0).reshape(2, 3)
    tree = translate({"a.weight": weight, "a.bias": np.ones(2), "a.seen": np.ones(())}, TEMPLATE, rule, "x", "a.seen")
    np.testing.assert_array_equal(tree["a"]["kernel"], weight.T)
    assert tree["a"]["kernel"].dtype == jnp.float32 and tree["a"]["bias"].dtype == jnp.bfloat16


def test_tensors_of_another_type_are_not_all_held_beside_the_leaves():
    """A pipeline's files are as large as a machine's memory may be: one is cast and let go before the next is read."""

    class Files(dict):
        def __getitem__(self, name):
            return np.full((256, 256), super().__getitem__(name), np.float64)

    names = [f"part{i}" for i in range(32)]
    template = dict.fromkeys(names, jax.ShapeDtypeStruct((256, 256), jnp.float32))
    tracemalloc.start()
    tree = translate(Files.fromkeys(names, 1.0), template, lambda name: ([name], as_it_is), "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def test_everything_that_does_not_fit_is_named_at_once():
    with pytest.raises(ValueError) as error:
        translate({"a.weight": np.zeros((2, 4)), "left": np.zeros(5)}, TEMPLATE, rule, "file.npz")
    for fault in (
        "file.npz does not fit the model",
        "missing from the file: a.bias, for a/bias",
        "another shape: a/kernel is (4, 2), wanted (3, 2); from a.weight (2, 4)",
        "not wanted by the model: left (5,)",
    ):
        assert fault in str(error.value)


def test_tensors_that_cannot_be_joined_are_named_with_their_shapes():
    def joined(name: str):
        return ["x", "y"], lambda tensors, shape: np.concatenate(tensors)

    tensors = {"x": np.zeros((2, 3)), "y": np.zeros((2, 4))}
    with pytest.raises(ValueError, match=r"cannot make w \(4, 3\) of x \(2, 3\), y \(2, 4\): "):
        translate(tensors, {"w": np.zeros((4, 3))}, joined, "x")


def test_torchs_kernels_are_laid_out_as_flax_has_them():
    assert kernel([np.zeros((5, 3, 2, 1))], (2, 1, 3, 5)).shape == (2, 1, 3, 5)
    assert kernel([np.zeros((5, 3))], (3, 5)).shape == kernel([np.zeros((5, 3, 1, 1))], (3, 5)).shape == (3, 5)
    assert kernel([np.zeros((5, 3, 2, 2))], (3, 5)).shape == (5, 3, 2, 2), "to be refused"


def test_pickles_are_refused_and_never_opened(tmp_path):
    for name in ("pytorch_model.bin", "model.pth", "model.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ValueError, match="may run code when opened"):
            read_arrays(tmp_path / name)
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(tmp_path / "objects.npz")


def test_a_folder_with_a_pickle_alone_is_refused_by_its_name(tmp_path):
    for name in ("optimizer.pt", "pytorch_model.bin", "training_args.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: expected .*\n  python -c .* NEW\.safetensors"):
        read_arrays(tmp_path)
    safetensors.numpy.save_file({"a": np.arange(3.0)}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(read_arrays(tmp_path)["a"], [0, 1, 2])


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors"])
def test_damaged_and_absent_files_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_arrays(tmp_path / name)
    (tmp_path / name).write_bytes(b"PK\x03\x04 and then nothing of use")
    with pytest.raises(ValueError, match="cannot be read"):
        read_arrays(tmp_path / name)


def test_folder_stands_for_its_model_safetensors(tmp_path):
    safetensors.numpy.save_file({"a": np.arange(3.0)}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(read_arrays(tmp_path)["a"], [0, 1, 2])


@pytest.mark.parametrize("wrapper", ["module.", "model.", "ema.", "state_dict.", "_orig_mod.", "state_dict.module."])
def test_what_training_scripts_put_before_every_name_is_taken_off(wrapper, tmp_path):
    safetensors.numpy.save_file(
        {f"{wrapper}{name}": np.zeros(2) for name in ("a.weight", "b")}, tmp_path / "w.safetensors"
    )
    assert set(read_arrays(tmp_path / "w.safetensors")) == {"a.weight", "b"}


def test_a_prefix_that_not_every_name_has_stays():
    for names in ({"module.a", "b"}, {"model.a", "ema.a"}, {"encoder.a", "encoder.b"}, {"model"}, set()):
        assert set(unwrapped(dict.fromkeys(names, np.zeros(1)))) == names


def saved_by_torch(torch) -> dict[str, object]:
    """What training scripts hand to `torch.save`."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    tied = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4), "b": torch.nn.Linear(4, 4)})
    tied["b"].weight = tied["a"].weight
    return {
        "a state dict": net.state_dict(),
        "timm, Lightning": {"state_dict": net.state_dict(), "epoch": 3},
        "DeiT, MAE": {"model": net.state_dict(), "args": argparse.Namespace(lr=1)},
        "a whole module": net,
        "tied": tied.state_dict(),
        "a transposed view": {"w": torch.randn(3, 4).t()},
    }


def test_the_line_that_is_advised_for_torchs_files_makes_safe_ones(tmp_path):
    """The very line of the message is run, on a whole module with weights_only=False, as that says."""
    torch = pytest.importorskip("torch")
    for kind, content in saved_by_torch(torch).items():
        torch.save(content, tmp_path / "model.pth")
        with pytest.raises(ValueError) as refusal:
            read_arrays(tmp_path / "model.pth")
        (line,) = (line for line in str(refusal.value).splitlines() if line.startswith("  python -c"))
        line = line.replace("weights_only=True", "weights_only=False") if kind == "a whole module" else line
        words = shlex.split(line.replace("FILE.pth", "model.pth").replace("NEW.safetensors", "new.safetensors"))
        subprocess.run([sys.executable, *words[1:]], check=True, cwd=tmp_path)
        found = read_arrays(tmp_path / "new.safetensors")
        inner = content.state_dict() if kind == "a whole module" else content
        inner = inner.get("state_dict", inner.get("model", inner))
        assert set(found) == set(inner)
        for name, tensor in inner.items():
            np.testing.assert_array_equal(found[name], tensor.detach().numpy())


def test_the_line_that_is_advised_is_a_program():
    python, flag, program, *files = shlex.split(FROM_TORCH)
    assert (python, flag, files) == ("python", "-c", ["FILE.pth", "NEW.safetensors"])
    assert compile(program, "line", "exec").co_names[:3] == ("argparse", "sys", "torch")
