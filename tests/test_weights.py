"""Weights on disk: what is written comes back, what does not fit is refused, and nothing is left half written."""

import json
import os
import zipfile

import numpy as np
import pytest
from handmade_files import SIX, npy, npz_file, zip_file

from tinyresnet.images import Preprocessing
from tinyresnet.layers import Linear
from tinyresnet.resnet import BasicBlock, ResNet
from tinyresnet.weights import WeightsFileError, load_model, load_weights, read_arrays, save_weights, write_arrays

CONFIG = {"block": "BasicBlock", "depths": [1, 1, 1, 1], "num_classes": 3, "width": 4, "stride_in_1x1": False,
          "eps": 1e-5, "caffe_pool": False, "cifar_stem": False, "option_a": False}


def small_resnet(seed=0, **options):
    return ResNet(BasicBlock, (1, 1, 1, 1), 3, width=4, rng=np.random.default_rng(seed), **options)


def arrays_of_all_kinds():
    rng = np.random.default_rng(0)
    return {
        "conv": rng.standard_normal((3, 3, 4, 5)).astype(np.float32),
        "double": rng.standard_normal((2, 3)),
        "half": rng.standard_normal(7).astype(np.float16),
        "count": np.int64(12),
        "bytes": rng.integers(0, 256, 9, dtype=np.uint8),
        "yes or no": np.array([True, False]),
        "empty": np.zeros((0, 4096), dtype=np.float32),
        "by columns": np.asfortranarray(rng.standard_normal((3, 4))),
        "every other": rng.standard_normal((6, 8))[::2, ::-2],
        "big endian": np.arange(5, dtype=">i4"),
        "layer1.0.bn1.weight": np.ones(1, dtype=np.float32),
    }


@pytest.mark.parametrize("name", arrays_of_all_kinds())
def test_an_array_comes_back_with_values_shape_and_dtype(name, tmp_path):
    array = np.asarray(arrays_of_all_kinds()[name])
    write_arrays(tmp_path / "w.npz", {name: array}, {})
    back = read_arrays(tmp_path / "w.npz")[0][name]
    np.testing.assert_array_equal(back, array, strict=False)
    assert (back.shape, back.dtype) == (array.shape, array.dtype.newbyteorder("="))


@pytest.mark.parametrize("name", arrays_of_all_kinds())
def test_an_array_comes_back_in_c_order_aligned_and_writable(name, tmp_path):
    write_arrays(tmp_path / "w.npz", {name: arrays_of_all_kinds()[name]}, {})
    flags = read_arrays(tmp_path / "w.npz")[0][name].flags
    assert flags.c_contiguous and flags.aligned and flags.writeable


def test_names_keep_their_order(tmp_path):
    write_arrays(tmp_path / "w.npz", arrays_of_all_kinds(), {})
    assert list(read_arrays(tmp_path / "w.npz")[0]) == list(arrays_of_all_kinds())


def test_facts_come_back(tmp_path):
    facts = {"classes": ["intracranial", "日本"], "config": {"eps": 1e-5, "caffe_pool": False}, "origin": None}
    write_arrays(tmp_path / "w.npz", {"w": SIX}, facts)
    assert read_arrays(tmp_path / "w.npz")[1] == facts


def test_numpy_reads_what_we_write(tmp_path):
    write_arrays(tmp_path / "w.npz", arrays_of_all_kinds(), {"a": 1})
    with np.load(tmp_path / "w.npz") as file:
        for name, array in arrays_of_all_kinds().items():
            np.testing.assert_array_equal(file[name], array)
        assert json.loads(file["facts.json"]) == {"a": 1}


def test_we_read_what_numpy_writes_without_compression(tmp_path):
    np.savez(tmp_path / "w.npz", **arrays_of_all_kinds())
    arrays, facts = read_arrays(tmp_path / "w.npz")
    for name, array in arrays_of_all_kinds().items():
        np.testing.assert_array_equal(arrays[name], array)
    assert facts == {}


def test_the_zip_file_is_sound_to_pythons_zipfile(tmp_path):
    write_arrays(tmp_path / "w.npz", arrays_of_all_kinds(), {"a": 1})
    with zipfile.ZipFile(tmp_path / "w.npz") as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, arrays_of_all_kinds(), {"a": 1})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_made_by_hand_is_read(tmp_path):
    (tmp_path / "w.npz").write_bytes(npz_file(b'{"a": 1}', w=npy(SIX)))
    arrays, facts = read_arrays(tmp_path / "w.npz")
    np.testing.assert_array_equal(arrays["w"], SIX)
    assert facts == {"a": 1}


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="expected numbers, got array 'w' of dtype object"):
        write_arrays(tmp_path / "w.npz", {"w": np.array([None])}, {})


@pytest.mark.parametrize("arrays, facts", [({"w": np.array([None])}, {}), ({"w": SIX}, {"a": object()}),
                                           ({"w": SIX}, {"a": float("nan")})])
def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(arrays, facts, tmp_path):
    write_arrays(tmp_path / "w.npz", {"old": SIX}, {})
    with pytest.raises((ValueError, TypeError)):
        write_arrays(tmp_path / "w.npz", arrays, facts)
    assert list(read_arrays(tmp_path / "w.npz")[0]) == ["old"]
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_failure_in_the_middle_of_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    write_arrays(tmp_path / "w.npz", {"old": SIX}, {})
    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="No space left on device"):
        write_arrays(tmp_path / "w.npz", {"new": SIX}, {})
    assert list(read_arrays(tmp_path / "w.npz")[0]) == ["old"]
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "w.npz")


def test_a_torch_file_is_refused_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"\x80\2\x8a\x0a")
    with pytest.raises(WeightsFileError, match="python -m weights_converter"):
        read_arrays(tmp_path / "w.npz")


def test_a_zip_entry_beyond_4_gigabytes_is_found_by_its_64_bit_numbers(tmp_path):
    """The numbers alone: the entry of 6 GB is not there, and the reason quotes the length from the zip64 field."""
    extra = b"\1\0\x10\0" + (6 << 30).to_bytes(8, "little") * 2
    content = bytearray(zip_file([("w.npy", npy(SIX))], size=0xFFFFFFFF))
    at = content.index(b"PK\1\2")
    content[at + 30:at + 32] = len(extra).to_bytes(2, "little")
    content[at + 46 + 5:at + 46 + 5] = extra
    content[-10:-6] = (int.from_bytes(content[-10:-6], "little") + len(extra)).to_bytes(4, "little")
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(WeightsFileError, match="'w.npy' of 6442450944 bytes does not fit"):
        read_arrays(tmp_path / "w.npz")


# -- models ---------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_with_all_its_arrays(tmp_path):
    model = small_resnet()
    save_weights(model, tmp_path / "w.npz")
    back = load_model(tmp_path / "w.npz").state_dict()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(back[name], array)


def test_a_model_comes_back_with_its_facts(tmp_path):
    model = small_resnet(stride_in_1x1=True, eps=1e-3, caffe_pool=True)
    model.classes, model.origin = ["a", "b", "c"], "by hand"
    save_weights(model, tmp_path / "w.npz")
    assert json.dumps(load_model(tmp_path / "w.npz").facts()) == json.dumps(model.facts())


def test_a_model_comes_back_in_eval_mode(tmp_path):
    save_weights(small_resnet(), tmp_path / "w.npz")
    assert not any(layer.training for _, layer in load_model(tmp_path / "w.npz").named_layers())


def test_a_strict_load_into_another_network_names_the_file_and_the_first_names(tmp_path):
    save_weights(small_resnet(), tmp_path / "w.npz")
    with pytest.raises(WeightsFileError, match=r"w\.npz: .*missing \(weight, bias\).*unexpected \(conv1.weight, bn1"):
        load_weights(Linear(2, 3, rng=np.random.default_rng(0)), tmp_path / "w.npz")


def test_a_strict_load_that_fails_changes_nothing(tmp_path):
    model = small_resnet(seed=1)
    before = model.state_dict()
    arrays = small_resnet(seed=2).state_dict()
    del arrays["fc.bias"]
    write_arrays(tmp_path / "w.npz", arrays, {})
    with pytest.raises(WeightsFileError):
        load_weights(model, tmp_path / "w.npz")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_load_that_is_not_strict_takes_what_fits_and_reports_the_rest(tmp_path):
    arrays = small_resnet(seed=2).state_dict()
    write_arrays(tmp_path / "w.npz", {"conv1.weight": arrays["conv1.weight"], "fc.weight": SIX, "more": SIX}, {})
    model = small_resnet(seed=1)
    report = load_weights(model, tmp_path / "w.npz", strict=False)
    assert (report.mismatched, report.unexpected) == (["fc.weight"], ["more"])
    np.testing.assert_array_equal(model.state_dict()["conv1.weight"], arrays["conv1.weight"])


@pytest.mark.parametrize("facts, reason", [
    ({}, "no network's facts"),
    ({"config": []}, "no network's facts"),
    ({"config": CONFIG | {"depths": "1111"}}, "no network's facts"),
    ({"config": CONFIG | {"width": 10**6}}, "network of at least"),
    ({"config": CONFIG | {"num_classes": 2**30}}, "network of at least"),
    ({"config": CONFIG | {"depths": [10**8, 1, 1, 1]}}, "network of at least"),
    ({"config": CONFIG | {"depths": [1] * 10_000}}, "network of at least"),
    ({"config": CONFIG | {"width": "4"}}, "positive whole numbers"),
    ({"config": CONFIG | {"width": True}}, "positive whole numbers"),
    ({"config": CONFIG | {"depths": [1, -1, 1, 1]}}, "positive whole numbers"),
    ({"config": CONFIG | {"block": "System"}}, "do not describe"),
    ({"config": CONFIG | {"colour": "red"}}, "do not describe"),
    ({"config": CONFIG}, "do not describe"),
    ({"config": CONFIG | {"caffe_pool": "false"}}, "do not describe"),
    ({"config": CONFIG | {"cifar_stem": 1}}, "do not describe"),
    ({"config": CONFIG | {"option_a": None}}, "do not describe"),
    ({"config": CONFIG | {"cifar_stem": True}}, r"1 mismatched \(conv1.weight\)"),
    ({"config": CONFIG | {"option_a": True}}, r"15 unexpected \(layer2.0.downsample.0.weight"),
    ({"config": CONFIG | {"eps": None}}, "do not describe"),
    ({"config": CONFIG | {"eps": -1}}, "eps within 0..1"),
    ({"classes": ["a", "b", "\x1b[2J"]}, r"names of 3 classes, .*\\x1b"),
    ({"network": "DenseNet"}, "do not describe a ResNet: network 'DenseNet'"),
    ({"classes": ["a"]}, "names of 3 classes"),
    ({"classes": "abc"}, "names of 3 classes"),
    ({"classes": [1, 2, 3]}, "names of 3 classes"),
    ({"preprocessing": {"crop": 60_000}}, "crop: expected"),
    ({"preprocessing": {"colour": "red"}}, "do not describe"),
])
def test_facts_of_no_network_or_a_larger_one_are_refused(facts, reason, tmp_path):
    facts = facts if facts in ({}, {"config": CONFIG}) else small_resnet().facts() | facts
    write_arrays(tmp_path / "w.npz", small_resnet().state_dict(), facts)
    with pytest.raises(WeightsFileError, match=f"w.npz: .*{reason}"):
        load_model(tmp_path / "w.npz")


@pytest.mark.parametrize("options", [{"stride_in_1x1": True}, {"eps": 1e-3}, {"caffe_pool": True},
                                     {"keras_pool": True}])
def test_weights_of_a_network_that_differs_in_no_shape_are_refused_before_anything_is_changed(options, tmp_path):
    save_weights(small_resnet(seed=2, **options), tmp_path / "w.npz")
    model = small_resnet(seed=1)
    before = model.state_dict()
    with pytest.raises(WeightsFileError, match=f"w.npz: is of a network with {next(iter(options))}=.* use load_model"):
        load_weights(model, tmp_path / "w.npz")
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_loaded_weights_bring_their_facts_and_evaluate(tmp_path):
    weights, model = small_resnet(seed=2), small_resnet(seed=1)
    weights.preprocessing, weights.classes, weights.origin = Preprocessing((5, 6)), ["a", "b", "c"], "by hand"
    save_weights(weights, tmp_path / "w.npz")
    load_weights(model, tmp_path / "w.npz")
    assert (model.preprocessing, model.classes, model.origin) == (Preprocessing((5, 6)), ["a", "b", "c"], "by hand")
    assert not model.training


def test_a_new_head_does_not_take_the_old_ones_classes(tmp_path):
    weights, model = small_resnet(), small_resnet()
    weights.classes = ["a", "b", "c"]
    save_weights(weights, tmp_path / "w.npz")
    model.replace_head(2)
    load_weights(model, tmp_path / "w.npz", strict=False)
    assert model.classes is None


def test_arrays_of_another_network_than_the_facts_say_are_refused(tmp_path):
    arrays = small_resnet().state_dict()
    arrays["layer9.0.conv1.weight"] = arrays.pop("layer4.0.conv1.weight")
    write_arrays(tmp_path / "w.npz", arrays, small_resnet().facts())
    with pytest.raises(WeightsFileError, match="layer9.0.conv1.weight"):
        load_model(tmp_path / "w.npz")
