"""torch's files read without torch: the same arrays as torch gives. By hand here the zip file, torch's own since 1.6."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from handmade_files import SIX, call, program, storage, tensor, text, torch_file, torch_state, whole

from weights_converter import WeightsFileError, read_tensors


# -- made by hand ---------------------------------------------------------------------------------------------------


def test_a_tensor_comes_with_values_shape_and_dtype(read):
    arrays = read(torch_state({"w": SIX.reshape(2, 3), "b": SIX[:1]}))
    np.testing.assert_array_equal(arrays["w"], np.array([[0, 1, 2], [3, 4, 5]], np.float32), strict=True)
    np.testing.assert_array_equal(arrays["b"], np.zeros(1, np.float32), strict=True)


def test_strides_and_offset_count_numbers(read):
    array = read(torch_file(program(w=tensor((2, 2), (1, 3), offset=1))))["w"]
    np.testing.assert_array_equal(array, [[1, 4], [2, 5]])
    assert array.flags.c_contiguous


def test_a_tensor_without_sides_is_a_number(read):
    array = read(torch_file(program(w=tensor((), (), offset=4))))["w"]
    assert (array.shape, float(array)) == ((), 4.0)


def test_an_empty_tensor_keeps_its_shape(read):
    assert read(torch_file(program(w=tensor((0, 512), (512, 1), count=0)), {"0": b""}))["w"].shape == (0, 512)


def test_a_side_of_1_may_have_any_stride(read):
    assert read(torch_file(program(w=tensor((1, 6), (0, 1)))))["w"].shape == (1, 6)


def test_bfloat16_widens_exactly(read):
    values = np.array([1.0, -2.5, 3.140625, np.inf, 0, 2.0**-130], np.float32)  # all of them have 8 bits or fewer
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    array = read(torch_file(program(w=tensor(kind="BFloat16Storage")), {"0": bits.tobytes()}))["w"]
    np.testing.assert_array_equal(array.ravel(), values, strict=True)


def test_big_endian_numbers_are_turned(read):
    array = read(torch_file(program(w=tensor()), {"0": SIX.astype(">f4").tobytes()}, byteorder=b"big"))["w"]
    np.testing.assert_array_equal(array.ravel(), SIX, strict=True)


def test_a_file_without_byte_order_is_little_endian(read):
    np.testing.assert_array_equal(read(torch_file(program(w=tensor()), byteorder=None))["w"].ravel(), SIX)


def test_a_boolean_is_true_for_any_byte_but_zero(read):
    array = read(torch_file(program(w=tensor(kind="BoolStorage")), {"0": bytes([0, 1, 2, 255, 0, 1])}))["w"]
    assert array.ravel().view(np.uint8).tolist() == [0, 1, 1, 1, 0, 1]


def test_storages_may_have_long_decimal_keys(read):
    key = "94463478932912"  # the address of the storage, as torch 1.5 and 1.6 wrote it
    assert list(read(torch_file(program(w=tensor(key=key)), {key: SIX.tobytes()}))) == ["w"]


def test_a_parameter_is_a_tensor(read):
    parameter = call("torch._utils", "_rebuild_parameter", tensor(), b"\x88", call("collections", "OrderedDict"))
    np.testing.assert_array_equal(read(torch_file(program(w=parameter)))["w"].ravel(), SIX)


def test_what_is_no_tensor_is_left_out(read):
    others = {"epoch": whole(3), "name": text("x"), "size": call("torch", "Size", b"K\3\x85"), "raw": storage()}
    assert list(read(torch_file(program(**others, w=tensor())))) == ["w"]


def test_nested_names_are_joined_by_dots(read):
    nested = b"}" + text("a") + b"](" + tensor() + tensor() + b"es"
    assert list(read(torch_file(program(state=nested)))) == ["state.a.0", "state.a.1"]


def test_the_folder_in_the_file_may_have_any_name(read):
    assert list(read(torch_file(program(w=tensor()), root="my best resnet, 日本"))) == ["w"]


# -- written by torch -----------------------------------------------------------------------------------------------


def torch_kinds():
    """Tensors of all kinds that a state dict may hold."""
    import torch

    torch.manual_seed(0)
    base = torch.randn(4, 6)
    floats = {str(dtype): torch.randn(3, 4).to(dtype)
              for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)}
    whole_numbers = {str(dtype): torch.arange(-3, 3).to(dtype)
                     for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}
    return floats | whole_numbers | {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.t(),
        "sliced": base[1:3, ::2],
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "last column": base[:, -1],
        "sliced half": base.half()[1:, 1:],
        "transposed bfloat16": base.bfloat16().t(),
        "parameter": torch.nn.Parameter(base.clone()),
        "buffer": torch.nn.BatchNorm1d(3).running_var,
        "whole storage": base,
    }


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "stream"])
def save(request):
    """torch.save in the container of today, and in that of 2017 to version 1.5."""
    torch = pytest.importorskip("torch")
    return partial(torch.save, _use_new_zipfile_serialization=request.param)


@pytest.fixture(scope="module")
def torch_files(save, tmp_path_factory):
    """Tensors of all kinds, and what we read of them from one torch file."""
    path = tmp_path_factory.mktemp("torch") / "kinds.pth"
    tensors = torch_kinds()
    save(tensors, path)
    return tensors, read_tensors(path)


KINDS = [
    "torch.float32", "torch.float64", "torch.float16", "torch.bfloat16", "torch.complex64",
    "torch.int64", "torch.int32", "torch.int16", "torch.int8", "torch.uint8", "torch.bool",
    "scalar", "empty", "transposed", "sliced", "channels last", "last column",
    "sliced half", "transposed bfloat16", "parameter", "buffer", "whole storage",
]


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_written_by_torch_is_read_as_torch_has_it(kind, torch_files):
    tensors, arrays = torch_files
    expected = tensors[kind].detach()
    if expected.element_size() == 2 and expected.is_floating_point():
        expected = expected.float()
    np.testing.assert_array_equal(arrays[kind], expected.numpy(), strict=True)


@pytest.mark.torch
def test_no_kind_is_forgotten(torch_files):
    assert list(torch_files[0]) == list(torch_files[1]) == KINDS


@pytest.mark.torch
def test_a_state_dict_with_its_metadata_is_read(save, tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    save(module.state_dict(), tmp_path / "w.pth")
    arrays = read_tensors(tmp_path / "w.pth")
    assert list(arrays) == list(module.state_dict())
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(arrays[name], value.numpy(), strict=True)


@pytest.mark.torch
def test_a_checkpoint_with_its_optimiser_is_read(save, tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 3)
    optimiser = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    checkpoint = {"epoch": 3, "best": 0.5, "state_dict": module.state_dict(), "optimizer": optimiser.state_dict()}
    save(checkpoint, tmp_path / "w.pth")
    arrays = read_tensors(tmp_path / "w.pth")
    np.testing.assert_array_equal(arrays["state_dict.weight"], module.weight.detach().numpy())
    average = optimiser.state[module.weight]["exp_avg"].numpy()
    np.testing.assert_array_equal(arrays["optimizer.state.0.exp_avg"], average)


@pytest.mark.torch
@pytest.mark.parametrize("what, reason", [
    ("expanded", "stride of 0"), ("sparse", "torch._utils._rebuild_sparse_tensor"), ("numpy array", "numpy"),
    ("protocol 4", "protocol 4"), ("conjugate", "resolve_conj"), ("module", "save model.state_dict"),
])
def test_what_torch_can_save_and_we_do_not_read_is_refused_with_the_reason(what, reason, tmp_path):
    torch = pytest.importorskip("torch")
    value, options = {
        "module": (torch.nn.Linear(2, 3), {}),
        "expanded": ({"w": torch.ones(1, 3).expand(1000, 3)}, {}),
        "conjugate": ({"w": torch.ones(3, dtype=torch.complex64).conj()}, {}),
        "sparse": ({"w": torch.eye(3).to_sparse()}, {}),
        "protocol 4": ({"w": torch.ones(3)}, {"pickle_protocol": 4}),
        "numpy array": ({"w": np.ones(3)}, {}),
    }[what]
    torch.save(value, tmp_path / "w.pth", **options)
    with pytest.raises(WeightsFileError, match=reason):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.torch
def test_a_torchscript_program_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "w.pth")
    with pytest.raises(WeightsFileError, match="TorchScript"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.torch
@pytest.mark.shared
def test_the_real_resnet50_is_read_as_torch_reads_it(shared: Path):
    torch = pytest.importorskip("torch")
    path = shared / "weights" / "resnet50_imagenet_pq.pth"
    arrays, tensors = read_tensors(path), torch.load(path, weights_only=True)
    assert list(arrays) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(arrays[name], value.numpy(), strict=True)


@pytest.mark.torch
@pytest.mark.shared
def test_a_small_published_file_is_read_as_torch_reads_it(shared: Path):
    torch = pytest.importorskip("torch")
    path = shared / "weights" / "small" / "atreides_resnet20.pth"
    arrays, tensors = read_tensors(path), torch.load(path, weights_only=True, map_location="cpu")
    assert list(arrays) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(arrays[name], value.numpy(), strict=True)
