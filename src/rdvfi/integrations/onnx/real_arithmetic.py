"""Replacement of complex tensors of a traced graph by pairs of real ones, which ONNX requires.

Every node with a complex value is replaced by two, its real and its imaginary part, and every node that
makes real values of complex ones by the real arithmetic for it.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_arg

aten = torch.ops.aten
Pair = tuple[Any, Any]
"""The nodes of a real and an imaginary part."""

_EACH_PART = {
    aten.sum.dim_IntList, aten.mean.dim, aten.clone.default, aten.alias.default, aten.unsqueeze.default,
    aten.squeeze.dims, aten.squeeze.dim, aten.view.default, aten.expand.default, aten.permute.default,
    aten.slice.Tensor, aten.select.int, aten.gather.default, aten.index.Tensor, aten.index_select.default,
    aten.repeat.default, aten.flip.default, aten.neg.default, aten.cat.default, aten.where.self,
    aten.add.Tensor, aten.sub.Tensor, aten.stack.default, aten.reshape.default, aten.flatten.using_ints,
    aten.unflatten.int, aten.contiguous.default, aten.detach.default, aten._unsafe_view.default,
    aten.transpose.int, aten.expand_as.default, aten.zeros_like.default, aten.split.Tensor, aten.chunk.default,
    aten.unbind.int, aten.split_with_sizes.default, aten.squeeze.default, aten.mean.default, aten.sum.default,
}  # fmt: skip
"""Operators that treat both parts alike. A real tensor among their arguments has the imaginary part zero."""
_VALUES: dict[Any, tuple[int, ...]] = {
    aten.cat.default: (0,),
    aten.stack.default: (0,),
    aten.expand_as.default: (0, 1),
    aten.where.self: (1, 2),
    aten.add.Tensor: (0, 1),
    aten.sub.Tensor: (0, 1),
}
"""Which of their arguments are values, where it is not the first alone."""


def without_complex(graph: Graph) -> None:
    """Rewrite a functional graph of aten operators in place.

    Raises:
        NotImplementedError: If there is an operator on complex values without a rule here.
    """
    rewriter = _Rewriter(graph)
    for node in list(graph.nodes):
        rewriter.rewrite(node)
    for node in reversed(list(graph.nodes)):
        if node in rewriter.done:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    graph.lint()


def _is_complex(node: Any) -> bool:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return isinstance(value, Tensor) and value.is_complex()


class _Rewriter:
    """Emits real nodes in front of the complex ones."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.pairs: dict[Node, Pair] = {}
        self.lists: dict[Node, list[Pair]] = {}
        self.done: set[Node] = set()

    def rewrite(self, node: Node) -> None:
        """Replace one node, if it takes or gives complex values."""
        takes = any(_is_complex(each) or each in self.lists for each in node.all_input_nodes)
        gives = _is_complex(node)
        if node.op == "output" or not (takes or gives):
            return
        self.done.add(node)
        args: Any = node.args
        with self.graph.inserting_before(node):
            if isinstance(node.meta.get("val"), list | tuple):
                self.lists[node] = self._list(node, args)
            elif args[0] in self.lists:  # one of several results
                self.pairs[node] = self.lists[args[0]][args[1]]
                if not gives:
                    node.replace_all_uses_with(self.pairs[node][0])
            elif gives:
                self.pairs[node] = self._pair(node)
            else:
                node.replace_all_uses_with(self._real(node))

    def emit(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """A new node, with the shape and type of its value."""
        node = self.graph.call_function(target, args, kwargs)
        values = map_arg((args, kwargs), lambda each: each.meta["val"])
        node.meta["val"] = target(*values[0], **values[1])
        return node

    def part(self, value: Any, index: int) -> Any:
        """The real (0) or imaginary (1) part of an argument."""
        if isinstance(value, list | tuple):
            return [self.part(item, index) for item in value]
        if not isinstance(value, Node):
            return value if index == 0 or not isinstance(value, int | float) else 0.0
        if value in self.pairs:
            return self.pairs[value][index]
        return value if index == 0 else self.emit(aten.full_like.default, value, 0.0)

    def _pair(self, node: Node) -> Pair:
        target, args = node.target, node.args
        if target in _EACH_PART:
            shaped = target in (aten.add.Tensor, aten.sub.Tensor)
            pair = self._part_of(node, 0), self._part_of(node, 1)
            return self._shaped(pair, node) if shaped else pair
        rule: Callable[..., Pair] | None = _RULES.get(target)
        if rule is None:
            raise NotImplementedError(f"complex numbers in {target} have no rule for ONNX")
        pair = rule(self, *args)
        return self._shaped(pair, node) if target in (aten.mul.Tensor, aten.div.Tensor) else pair

    def _list(self, node: Node, args: Any) -> list[Pair]:
        """The results of an operator that has several."""
        if node.target is aten.broadcast_tensors.default:
            shape = list(node.meta["val"][0].shape)
            real, imaginary = (
                [self.emit(aten.expand.default, self.part(x, i), shape) for x in args[0]] for i in (0, 1)
            )
            return list(zip(real, imaginary, strict=True))
        first, second = (self.emit(node.target, self.part(args[0], i), *args[1:], **node.kwargs) for i in (0, 1))
        count = range(len(node.meta["val"]))
        return [(self.emit(operator.getitem, first, k), self.emit(operator.getitem, second, k)) for k in count]

    def _part_of(self, node: Node, index: int) -> Node:
        values = _VALUES.get(node.target, (0,))
        args = [self.part(arg, index) if i in values else arg for i, arg in enumerate(node.args)]
        return self.emit(node.target, *args, **node.kwargs)

    def _shaped(self, pair: Pair, node: Node) -> Pair:
        """Both parts in the shape of the result, where a real scalar or a smaller tensor left one smaller."""
        shape = list(node.meta["val"].shape)
        return tuple(  # pyright: ignore[reportReturnType]
            part if list(part.meta["val"].shape) == shape else self.emit(aten.expand.default, part, shape)
            for part in pair
        )

    def _real(self, node: Node) -> Node:
        value: Any = node.args[0]
        real, imaginary = self.pairs[value]
        if node.target in (aten.real.default, aten.imag.default):
            return imaginary if node.target is aten.imag.default else real
        if node.target is aten.view_as_real.default:
            return self._beside(node, real, imaginary)
        if node.target is aten.abs.default:
            return self.emit(aten.sqrt.default, self.square(real, imaginary))
        if node.target is aten.angle.default:
            return self.emit(aten.atan2.default, imaginary, real)
        raise NotImplementedError(f"complex numbers in {node.target} have no rule for ONNX")

    def _beside(self, node: Node, real: Node, imaginary: Node) -> Node:
        """Both parts in one tensor; who looks at one of them alone gets that."""
        last = node.meta["val"].ndim - 1
        for user in list(node.users):
            if user.target is aten.select.int and user.args[1] in (-1, last):
                user.replace_all_uses_with(real if user.args[2] == 0 else imaginary)
        both = [self.emit(aten.unsqueeze.default, part, -1) for part in (real, imaginary)]
        return self.emit(aten.cat.default, both, -1)

    def square(self, real: Node, imaginary: Node) -> Node:
        """The square of a length."""
        return self.emit(
            aten.add.Tensor,
            self.emit(aten.mul.Tensor, real, real),
            self.emit(aten.mul.Tensor, imaginary, imaginary),
        )


def _multiply(to: _Rewriter, x: Any, y: Any) -> Pair:
    times, plus, minus = (partial(to.emit, op) for op in (aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor))
    if x not in to.pairs or y not in to.pairs:
        z, factor = (x, y) if x in to.pairs else (y, x)
        return times(to.pairs[z][0], factor), times(to.pairs[z][1], factor)
    (a, b), (c, d) = to.pairs[x], to.pairs[y]
    return minus(times(a, c), times(b, d)), plus(times(a, d), times(b, c))


def _divide(to: _Rewriter, x: Any, y: Any) -> Pair:
    over = partial(to.emit, aten.div.Tensor)
    if y not in to.pairs:
        return over(to.pairs[x][0], y), over(to.pairs[x][1], y)
    c, d = to.pairs[y]
    scale = to.square(c, d)
    conjugate = over(c, scale), over(to.emit(aten.neg.default, d), scale)
    a, b = to.part(x, 0), to.part(x, 1)
    times = partial(to.emit, aten.mul.Tensor)
    real = to.emit(aten.sub.Tensor, times(conjugate[0], a), times(conjugate[1], b))
    return real, to.emit(aten.add.Tensor, times(conjugate[0], b), times(conjugate[1], a))


def _polar(to: _Rewriter, length: Any, angle: Any) -> Pair:
    turned = (to.emit(op, angle) for op in (aten.cos.default, aten.sin.default))
    first, second = (to.emit(aten.mul.Tensor, length, each) for each in turned)
    return first, second


def _exp(to: _Rewriter, x: Any) -> Pair:
    return _polar(to, to.emit(aten.exp.default, to.pairs[x][0]), to.pairs[x][1])


def _log(to: _Rewriter, x: Any) -> Pair:
    real, imaginary = to.pairs[x]
    length = to.emit(aten.log.default, to.square(real, imaginary))
    return to.emit(aten.mul.Tensor, length, 0.5), to.emit(aten.atan2.default, imaginary, real)


def _conjugate(to: _Rewriter, x: Any) -> Pair:
    return to.pairs[x][0], to.emit(aten.neg.default, to.pairs[x][1])


def _from_parts(to: _Rewriter, x: Any) -> Pair:
    return to.emit(aten.select.int, x, -1, 0), to.emit(aten.select.int, x, -1, 1)


def _filled(to: _Rewriter, x: Any, value: complex | float) -> Pair:
    like, number = to.part(x, 0), complex(value)
    return to.emit(aten.full_like.default, like, number.real), to.emit(aten.full_like.default, like, number.imag)


_RULES: dict[Any, Callable[..., Pair]] = {
    aten.complex.default: lambda to, real, imaginary: (real, imaginary),
    aten.view_as_complex.default: _from_parts,
    aten.full_like.default: _filled,
    aten.ones_like.default: lambda to, x: _filled(to, x, 1.0),
    aten._conj.default: _conjugate,
    aten.conj.default: _conjugate,
    aten.square.default: lambda to, x: _multiply(to, x, x),
    aten.mul.Tensor: _multiply,
    aten.mul.Scalar: _multiply,
    aten.div.Tensor: _divide,
    aten.rsub.Scalar: lambda to, x, y: (to.emit(aten.rsub.Scalar, to.pairs[x][0], y), _conjugate(to, x)[1]),
    aten.reciprocal.default: lambda to, x: _divide(to, 1.0, x),
    aten.polar.default: _polar,
    aten.exp.default: _exp,
    aten.log.default: _log,
}
