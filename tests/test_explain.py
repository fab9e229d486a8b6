"""Maps of evidence against what they are made of, and against networks that have learned nothing."""

import csv

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from tinyresnet import fold_batch_norm, load_model, preprocess, read_image, small_resnet
from tinyresnet.explain import class_activation_map, grad_cam, nearest, occlusion, pointing_game, randomised
from tinyresnet.layers import BatchNorm2d
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet

NETWORKS = {
    "two classes": lambda: ResNet(BasicBlock, (1, 1, 1, 1), 2, width=8),
    "seven classes, bottlenecks": lambda: ResNet(Bottleneck, (1, 2, 1, 1), 7, width=4),
    "one class": lambda: ResNet(Bottleneck, (1, 1, 1, 1), 1, width=4, stride_in_1x1=True),
}


def trained(model, dtype=np.float64):
    """As if it had been trained: batch norms with statistics of their own; in train mode, as training leaves it."""
    rng = np.random.default_rng(1)
    for _, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):
            layer.weight, layer.running_var = rng.uniform(0.5, 2, (2, len(layer.weight)))
            layer.bias, layer.running_mean = rng.normal(0, 0.3, (2, len(layer.weight)))
    return model.astype(dtype)


def images(N=3, dtype=np.float64, size=(65, 96)):
    return np.random.default_rng(0).standard_normal((N, *size, 3)).astype(dtype)


def logits_of(model, x):
    return fold_batch_norm(model).forward(x)


# Grad-CAM -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_after_the_last_stage_grad_cam_is_the_class_activation_map(name):
    model, x = trained(NETWORKS[name]()), images()
    for k in range(model.config["num_classes"]):
        expected = class_activation_map(model, x, k)
        np.testing.assert_allclose(grad_cam(model, x, k), expected, rtol=0, atol=1e-12 * abs(expected).max())  # rounding


@pytest.mark.parametrize("name", NETWORKS)
def test_the_class_activation_map_adds_up_to_the_logit_less_its_bias(name):
    model, x = trained(NETWORKS[name]()), images()
    total = class_activation_map(model, x, 0).sum(axis=(1, 2)) + model.fc.bias[0]
    np.testing.assert_allclose(total, logits_of(model, x)[:, 0], rtol=0, atol=1e-10)  # float64 through ten layers


@pytest.mark.parametrize("at", ["layer2", "layer3"])
def test_the_weight_of_a_channel_is_how_the_logit_moves_with_its_mean(at):
    model, x = trained(small_resnet(3, width=4)).eval(), images(2)
    A, rest = model.part(to=at).forward(x), model.part(after=at)
    N, h, w, C = A.shape
    step = 1e-6 * np.eye(C)
    alpha = [(rest.forward(A + d) - rest.forward(A - d))[:, 2] / (2e-6 * h * w) for d in step]  # C times (N,)
    expected = np.einsum("nijc,cn->nij", A, np.array(alpha))
    # a step of 1e-6 may cross the kink of a few of some thousand ReLUs
    np.testing.assert_allclose(grad_cam(model, x, 2, at), expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_every_image_of_a_batch_may_have_its_own_class():
    model, x = trained(NETWORKS["seven classes, bottlenecks"]()), images()
    together = grad_cam(model, x, [5, 0, 2], "layer3")
    alone = [grad_cam(model, x[n : n + 1], k, "layer3")[0] for n, k in enumerate([5, 0, 2])]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)  # batches are added in another order


@pytest.mark.parametrize("explain", [lambda model, x: grad_cam(model, x, 1, "layer2"),
                                     lambda model, x: class_activation_map(model, x, 1),
                                     lambda model, x: occlusion(model, x, 1, size=32, stride=32)])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(explain, training):
    model, x = trained(NETWORKS["two classes"](), np.float32), images(dtype=np.float32)
    model.freeze("layer1")
    model.backward(model.forward(x))
    model.train(training)
    before, gradients = model.state_dict(), dict(model.named_grads())
    modes = [(layer.training, layer.frozen, layer._saved) for _, layer in model.named_layers()]
    explain(model, x)
    assert [(layer.training, layer.frozen, layer._saved) for _, layer in model.named_layers()] == modes
    assert {name: id(gradient) for name, gradient in model.named_grads()} == {n: id(g) for n, g in gradients.items()}
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_a_map_has_the_dtype_of_the_images():
    model, x = trained(NETWORKS["two classes"](), np.float32), images(dtype=np.float32)
    maps = grad_cam(model, x, 1), class_activation_map(model, x, 1), occlusion(model, x, 1, size=48, stride=48)
    assert {map.dtype for map in maps} == {np.dtype(np.float32)}


@pytest.mark.parametrize("at, message", [("layer9", "no stage is named 'layer9'"), ("avgpool", "before the average"),
                                         ("fc", "before the average")])
def test_a_stage_without_a_map_is_refused(at, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(trained(NETWORKS["two classes"]()), images(), 1, at)


@pytest.mark.parametrize("wrong", [2, -1, 0.5, [0, 1]])
@pytest.mark.parametrize("explain", [grad_cam, class_activation_map,
                                     lambda model, x, k: occlusion(model, x, k, size=96, stride=96)])
def test_a_class_that_is_none_is_refused(explain, wrong):
    with pytest.raises(ValueError, match=r"one for each of 3 images, in 0..1, got"):
        explain(trained(NETWORKS["two classes"]()), images(), wrong)


# Randomised -----------------------------------------------------------------------------------------------------------


def likeness(maps, others):
    """Mean over images of the rank correlation, whatever its sign."""
    return np.mean([abs(spearmanr(a.ravel(), b.ravel())[0]) for a, b in zip(maps, others)])


def test_randomised_stages_hold_the_same_numbers_elsewhere_and_the_others_do_not_change():
    model = trained(NETWORKS["two classes"]())
    before, after = model.state_dict(), randomised(model, ["layer4", "fc"], np.random.default_rng(0)).state_dict()
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"layer4", "fc"}
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    assert all(np.array_equal(np.sort(before[name], axis=None), np.sort(after[name], axis=None)) for name in before)


def test_a_stage_that_cannot_be_randomised_is_refused():
    with pytest.raises(ValueError, match="no stage is named 'head'"):
        randomised(NETWORKS["two classes"](), ["head"], np.random.default_rng(0))


@pytest.fixture(scope="module")
def real(request):
    """The published network, photographs it knows, two CT slices, and what it takes each for."""
    shared, model = request.getfixturevalue("shared"), load_model(request.getfixturevalue("published"))
    with open(shared / "data" / "imagenet_sample" / "labels.csv") as file:
        paths = [shared / "data" / "imagenet_sample" / row["file"] for row in csv.DictReader(file)][:6]
    paths += [shared / "data" / "head_ct" / f"{number:03}.png" for number in (10, 20)]
    x = np.stack([preprocess(read_image(path), model.preprocessing) for path in paths])
    return model, x, logits_of(model, x).argmax(axis=1)


@pytest.mark.shared
def test_grad_cam_of_the_published_network_is_the_class_activation_map(real):
    expected = class_activation_map(*real)
    error = abs(grad_cam(*real) - expected).max() / abs(expected).max()
    assert error < 1e-5  # float32, sums over 2048 channels; measured 3e-7


@pytest.mark.shared
def test_weights_shuffled_from_the_head_down_destroy_the_map(real):
    """Measured over three seeds: 0.6 after the head alone, at most 0.34 from layer4 down; a map of the image keeps 1."""
    model, x, classes = real
    maps, stages = grad_cam(model, x, classes), ["fc", "layer4", "layer3", "layer2"]
    for depth in (2, 3, 4):
        other = randomised(model, stages[:depth], np.random.default_rng(0))
        assert likeness(maps, grad_cam(other, x, classes)) < 0.5


def test_a_map_of_a_small_network_changes_with_its_weights():
    """Random maps of 7x7 correlate by 0.12 on average; neighbouring cells of a map, seen through one window, by more."""
    model, x = trained(small_resnet(2, width=16)), ndimage.gaussian_filter(images(6, size=(112, 112)), (0, 6, 6, 0))
    other = randomised(model, ["fc", "layer4", "layer3", "layer2"], np.random.default_rng(0))
    assert likeness(grad_cam(model, x, 1, "layer3"), grad_cam(other, x, 1, "layer3")) < 0.5


# Occlusion ------------------------------------------------------------------------------------------------------------


def test_a_cell_of_the_occlusion_map_is_the_fall_of_the_logit_when_it_is_covered():
    model, x = trained(NETWORKS["two classes"]()), images(2, size=(64, 96))
    found = occlusion(model, x, [1, 0], size=24, stride=16)
    covered = x.copy()
    covered[:, 28:52, 12:36] = x.mean(axis=(1, 2))[:, None, None]  # about the middle (40, 24) of cell (2, 1)
    falls = logits_of(model, x) - logits_of(model, covered)
    assert found.shape == (2, 4, 6)
    np.testing.assert_allclose(found[:, 2, 1], [falls[0, 1], falls[1, 0]], rtol=0, atol=1e-10)  # float64, other batches


def test_covering_what_is_that_colour_already_changes_nothing():
    model, x = trained(NETWORKS["two classes"]()), images(1)
    x[:, 32:] = 0.25
    found = occlusion(model, x, 1, size=8, stride=16, fill=0.25)  # cells of 16 pixels, a little more
    assert abs(found[0, 2:]).max() < 1e-10 < abs(found[0, :2]).min()  # rounding


def test_squares_are_cut_at_the_edge_and_the_images_stay_as_they_were():
    model, x = trained(NETWORKS["two classes"]()), images(1, size=(33, 40))
    before = x.copy()
    whole = occlusion(model, x, 1, size=100, stride=33)
    assert whole.shape == (1, 1, 1) and np.array_equal(x, before)
    grey = np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape).copy()
    np.testing.assert_allclose(whole[0, 0], logits_of(model, x)[:, 1] - logits_of(model, grey)[:, 1], atol=1e-10)


@pytest.mark.parametrize("size, stride", [(0, 8), (8, 0)])
def test_no_square_and_no_stride_are_refused(size, stride):
    with pytest.raises(ValueError, match="at least 1 pixel"):
        occlusion(NETWORKS["two classes"](), images(1, np.float32), 0, size=size, stride=stride)


# Pointing game --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerance, hit", [(0, False), (4.9, False), (5, True)])
def test_a_point_hits_within_the_tolerance_of_the_mask(tolerance, hit):
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 8, 9] = True
    heat = np.zeros((1, 20, 30))
    heat[0, 5, 5] = 1  # three rows and four columns away
    assert pointing_game(heat, mask, tolerance).tolist() == [hit]


def test_a_coarse_map_points_at_the_middle_of_its_largest_cell():
    mask = np.zeros((2, 32, 48), bool)
    mask[:, 12, 40] = True
    heat = np.zeros((2, 4, 6))
    heat[0, 1, 5] = heat[1, 1, 4] = 1  # middles (12, 44) and (12, 36)
    assert pointing_game(heat, mask, 4).tolist() == [True, True] and not pointing_game(heat, mask, 3).any()


def test_maps_at_random_score_the_share_of_the_widened_mask():
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 20), bool)
    mask[5:10, 3:9] = True
    share = (ndimage.distance_transform_edt(~mask) <= 2).mean()
    hits = pointing_game(rng.random((4000, 20, 20)), np.broadcast_to(mask, (4000, 20, 20)), 2)
    assert abs(hits.mean() - share) < 4 * np.sqrt(share * (1 - share) / 4000)  # four standard deviations


def test_an_empty_mask_is_refused_by_its_number():
    masks = np.ones((3, 8, 8), bool)
    masks[1] = False
    with pytest.raises(ValueError, match=r"masks \[1\] are empty"):
        pointing_game(np.zeros((3, 4, 4)), masks, 1)


def test_maps_without_a_mask_each_are_refused():
    with pytest.raises(ValueError, match=r"as many masks \(n, H, W\), got \(3, 4, 4\) and \(2, 8, 8\)"):
        pointing_game(np.zeros((3, 4, 4)), np.ones((2, 8, 8), bool), 1)


# Nearest --------------------------------------------------------------------------------------------------------------


def features(n=7, m=20):
    rng = np.random.default_rng(0)
    return rng.random((n, 5)), rng.random((m, 5)) * [1, 10, 1, 1, 0.1]


def test_the_nearest_are_scikit_learns_by_cosine_of_standardised_features():
    f, train = features()
    mean, std = train.mean(axis=0), train.std(axis=0)
    distance, rows = NearestNeighbors(n_neighbors=4, metric="cosine").fit((train - mean) / std).kneighbors((f - mean) / std)
    found, similarity = nearest(f, train, 4)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(similarity, 1 - distance, rtol=0, atol=1e-4)  # std + 1e-6 here


def test_a_case_of_the_training_set_is_nearest_to_itself():
    _, train = features()
    rows, similarity = nearest(train, train, 1)
    assert rows[:, 0].tolist() == list(range(20)) and np.allclose(similarity, 1)


def test_cases_of_the_same_group_are_passed_over():
    _, train = features()
    groups = np.arange(20) // 2
    rows, _ = nearest(train, train, 18, groups=groups, train_groups=groups)
    assert not (groups[rows] == groups[:, None]).any()


def test_more_neighbours_than_the_other_groups_have_are_refused():
    f, train = features()
    with pytest.raises(ValueError, match=r"k within 1..18, .* got 19"):
        nearest(f, train, 19, groups=[0] * 7, train_groups=[0] * 2 + [1] * 18)


def test_groups_of_one_side_alone_are_refused():
    with pytest.raises(ValueError, match="groups for both or none"):
        nearest(*features(), 1, groups=[0] * 7)


def test_a_channel_that_never_fires_does_not_matter():
    f, train = features()
    dead = [np.column_stack([array, np.zeros(len(array))]) for array in (f, train)]
    np.testing.assert_array_equal(nearest(*dead, 3)[0], nearest(f, train, 3)[0])
