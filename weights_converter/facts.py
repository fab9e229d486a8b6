"""What no shape tells: strides, pooling, epsilon and the input, from the graph where there is one, else by the scheme.

Two files may hold arrays of the same shapes and yet mean different networks. An ONNX file has the operations; it is
believed, and refused if there are others than a ResNet has. Of the others the names tell whose program reads them, which
fixes the rest, unless many programs use these names: then it is a guess, and the summary says so.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tinyresnet.cifar import CLASSES as CIFAR_CLASSES
from tinyresnet.layers import BatchNorm2d, Conv2d, Linear
from weights_converter.catalogue import of_hash
from weights_converter.names import Found
from weights_converter.networks import CIFAR, Network
from weights_converter.onnx import DEFAULTS, Graph

CLASSES_FILE = Path(__file__).with_name("imagenet_classes.txt")

AVERAGES = {"GlobalAveragePool", "ReduceMean"}
HARMLESS = {"Constant", "Identity", "Dropout", "Flatten", "Reshape", "Shape", "Squeeze", "Unsqueeze", "Gather", "Concat",
            "Cast", "Softmax"}  # around the average and the head; they change no order of the answers
OPTION_A = {"Slice", "Pad"}

POOLS: dict[tuple, dict] = {  # pads and ceil_mode of a 3x3 pooling of stride 2
    ((1, 1, 1, 1), 0): {},
    ((0, 0, 0, 0), 1): {"caffe_pool": True},
    ((0, 0, 1, 1), 0): {"caffe_pool": True},  # one row more below is what ceil gives, for any size
    ((0, 0, 0, 0), 0): {"keras_pool": True},
}


def facts_of(found: Found, graph: Graph, origin: dict) -> dict:
    """The facts that tinyresnet keeps beside the arrays, as ResNet.facts gives them.

    graph: as onnx.graph_facts gives it, {} if the file has none. origin: file and sha256; what the catalogue says of this
    hash is believed more than the names. Where the head is missing, there is one class, without a name. Raises ValueError
    if the graph is of another network.
    """
    network, scheme = found.network, found.scheme
    config = graph_config(found, graph) if graph else scheme_config(found)
    facts = network.thin(**config).facts()
    facts["config"] |= {"width": network.width, "num_classes": network.num_classes or 1}
    entry = of_hash(origin["sha256"])
    if preprocessing := entry.preprocessing if entry else scheme.preprocessing:
        facts["preprocessing"] = asdict(preprocessing)
    if network.missing:
        origin = origin | {"missing": network.missing}
    return facts | {"classes": classes_of(network), "origin": origin}


def scheme_config(found: Found) -> dict:
    """The scheme's facts, less those for which the network has no use."""
    useless = {"stride_in_1x1"} if found.network.body == 2 else set()
    return {name: value for name, value in found.scheme.config.items() if name not in useless}


def graph_config(found: Found, graph: Graph) -> dict:
    """The facts that the graph tells. Raises ValueError if it differs from our network in any operation with weights.

    Of the others it is counted how many there are; which follows which is not looked at.
    """
    ours = {stored: name for name, stored in found.stored.items()}
    graph = {operation: {ours.get(name, name): node for name, node in nodes.items()} for operation, nodes in graph.items()}
    graph["Gemm"] = {name: node | {"transB": 1} for name, node in graph["Gemm"].items()}  # one stored otherwise was turned
    epsilons = {node["epsilon"] for node in graph["BatchNormalization"].values()}
    if len(epsilons) != 1 or not 0 <= min(epsilons) < 1:
        raise ValueError(f"expected batch norms of one small epsilon in the graph, got {sorted(epsilons)[:5]}")
    second = graph["Conv"].get("layer2.0.conv1.weight", {})
    config = pool_config(found.network, graph) | {
        "eps": epsilons.pop(), "stride_in_1x1": found.network.body == 3 and second.get("strides") == (2, 2)}
    check_operations(found.network, graph)
    for operation, expected in expected_nodes(found.network, config).items():
        for name in expected | graph[operation]:
            wanted, node = (nodes.get(name, "no node") for nodes in (expected, graph[operation]))
            if node != wanted:
                raise ValueError(f"its graph is not that of a {found.network}: expected as {operation} with {name[:80]!r} "
                                 f"{wanted}, got {str(node)[:200]}")
    return config


def check_operations(network: Network, graph: Graph) -> None:
    """Raise ValueError if the graph has other operations without weights than our network, or more or fewer of them."""
    blocks = sum(network.depths)
    counts = {operation: len(nodes) for operation, nodes in graph.items()}
    counts["average"] = sum(counts.pop(operation, 0) for operation in AVERAGES)
    average = 1 if network.num_classes else min(counts["average"], 1)
    expected = {"Relu": 1 + network.body * blocks, "Add": blocks, "average": average}
    known = {*DEFAULTS, *HARMLESS, *(OPTION_A if network.option_a else ())}
    for operation in sorted(counts.keys() - known | expected.keys()):
        if counts.get(operation, 0) != expected.get(operation, 0):
            raise ValueError(f"its graph is not that of a {network}: expected {expected.get(operation, 0)} times "
                             f"{operation[:80]}, got {counts.get(operation, 0)}")


def expected_nodes(network: Network, config: dict) -> Graph:
    """The operations of our network that have weights, as onnx.graph_facts would give them under our names."""
    nodes: Graph = {"Conv": {}, "BatchNormalization": {}, "Gemm": {}}
    for name, layer in network.thin(**config).named_layers():
        if isinstance(layer, Conv2d):
            nodes["Conv"][f"{name}.weight"] = {
                "strides": (layer.stride,) * 2, "pads": (layer.padding,) * 4, "group": 1, "dilations": (1, 1),
                "auto_pad": "NOTSET"}
        elif isinstance(layer, BatchNorm2d):
            nodes["BatchNormalization"][f"{name}.weight"] = {"epsilon": layer.eps}
        elif isinstance(layer, Linear) and network.num_classes:
            nodes["Gemm"][f"{name}.weight"] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    return nodes


def pool_config(network: Network, graph: Graph) -> dict:
    """The rule of the graph's one pooling."""
    if network.name in CIFAR and not graph["MaxPool"]:
        return {}
    for node in graph["MaxPool"].values():
        rule = node["pads"], node["ceil_mode"]
        rest = node["kernel_shape"], node["strides"], node["auto_pad"], node["dilations"], len(graph["MaxPool"])
        if rest == ((3, 3), (2, 2), "NOTSET", (1, 1), 1) and rule in POOLS and network.name not in CIFAR:
            return POOLS[rule]
    number = "no pooling" if network.name in CIFAR else "one 3x3 pooling of stride 2"
    raise ValueError(f"expected {number} in the graph of a {network}, got "
                     f"{str(list(graph['MaxPool'].values()))[:200]}")


def classes_of(network: Network) -> list[str] | None:
    """The names of the classes, where their number tells which they are."""
    if network.name in CIFAR:
        return list(CIFAR_CLASSES) if network.num_classes == len(CIFAR_CLASSES) else None
    return imagenet_classes() if network.num_classes == 1000 else None


def imagenet_classes() -> list[str]:
    """Names of the 1000 classes, in the order of the network's outputs."""
    lines = CLASSES_FILE.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines if not line.startswith("#")]
