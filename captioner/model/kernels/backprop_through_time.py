r"""Hand-written back-propagation through time for the GRU and LSTM on a CPU.

On a CPU, torch runs a GRU or LSTM as a chain of single operations that autograd walks back. Each
step then needs two products (for the state and for U) and a sum into a matrix of U's size. This
module derives the gradient by hand. Everything that does not depend on a later step is computed for
all words at once. Each step needs only one product, for the state, and U's gradient is a single
product over all words:

    dL/dU = \sum_t dL/da_t h_{t-1}^T        with a_t the inputs of the gates.

On real captions this makes a training step about a fifth faster. Other devices use torch's fused
kernels.

Letters: M sequences, T time steps, W words of all sequences, H hidden size. Sequences are packed as
described in `captioner.model.cells.cell`. Both functions are differentiable once.
"""

from typing import Any

import torch
from torch import Tensor

from captioner.model.kernels.linear import FewRows, sum_of_products


def by_hand(xs: Tensor) -> bool:
    """Return whether to use the functions below: on a CPU, without mixed precision."""
    return xs.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def previous(first: Tensor, later: Tensor, sizes: list[int]) -> Tensor:
    """Return the state before each word's step, from first (M, H) and later states (W, H)."""
    steps = later.split(sizes)
    return torch.cat((first, *(step[:n] for step, n in zip(steps, sizes[1:], strict=False))))


class LSTMThroughTime(torch.autograd.Function):
    r"""Recurrence of `LSTM`.

    With a_t the gate inputs in order i, f, g (the candidate), o, and D = dL/dh_t, C = dL/dc_t:

        C = D * o * (1 - tanh^2 c_t)  +  f_{t+1} * C_{t+1}
        da_i = C * g * i * (1 - i)         da_f = C * c_{t-1} * f * (1 - f)
        da_g = C * i * (1 - g^2)           da_o = D * tanh c_t * o * (1 - o)
        dL/dh_{t-1} = U^T da_t + the gradient of the output at t - 1
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, sizes: list[int], h0: Tensor, c0: Tensor, u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden states and the cells, (W, H) each.

        Args:
            ctx: Stores what `backward` needs.
            inputs: W x_t + biases, packed (W, 4 * H).
            sizes: Number of sequences still running at each step.
            h0: First hidden state (M, H).
            c0: First cell (M, H).
            u: U (4 * H, H).
        """
        size = h0.shape[1]
        gates = inputs.clone()
        cells = inputs.new_empty(len(inputs), size)
        tanh_cells, hidden = torch.empty_like(cells), torch.empty_like(cells)
        h, c = h0, c0
        ctx.layouts = layouts = FewRows(u, transpose=True)
        for a, cell, tanh_cell, out in zip(
            *(whole.split(sizes) for whole in (gates, cells, tanh_cells, hidden)), strict=True
        ):
            n = len(a)
            a += layouts.forward(h[:n])
            a[:, : 2 * size].sigmoid_()
            a[:, 2 * size : 3 * size].tanh_()
            a[:, 3 * size :].sigmoid_()
            i, f, g, o = a.chunk(4, dim=1)
            torch.mul(f, c[:n], out=cell).addcmul_(i, g)
            torch.tanh(cell, out=tanh_cell)
            torch.mul(o, tanh_cell, out=out)
            h, c = out, cell
        ctx.sizes = sizes
        ctx.save_for_backward(gates, cells, tanh_cells, hidden, h0, c0, u)  # u: must not change
        ctx.set_materialize_grads(False)  # the cells rarely have a gradient
        return hidden, cells

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, gradient: Tensor | None, of_cells: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of `inputs`, the first states and U."""
        gates, cells, tanh_cells, hidden, h0, c0, _ = ctx.saved_tensors
        sizes = ctx.sizes
        if gradient is None:
            gradient = torch.zeros_like(hidden)
        from_cells = [None] * len(sizes) if of_cells is None else of_cells.split(sizes)
        size = h0.shape[1]
        i, f, g, o = gates.chunk(4, dim=1)
        # The factors of C and D, for all words at once.
        to_ifg = torch.empty_like(gates[:, : 3 * size])
        torch.mul(g, i * (1 - i), out=to_ifg[:, :size])
        torch.mul(previous(c0, cells, sizes), f * (1 - f), out=to_ifg[:, size : 2 * size])
        torch.mul(i, 1 - g * g, out=to_ifg[:, 2 * size :])
        to_o = tanh_cells * o * (1 - o)
        to_c = o * (1 - tanh_cells * tanh_cells)
        da = torch.empty_like(gates)
        later_h = gradient.new_zeros(0, size)
        later_c = gradient.new_zeros(0, size)
        steps = zip(
            *(whole.split(sizes) for whole in (da, gradient, to_c, to_o, to_ifg, f)),
            from_cells,
            strict=True,
        )
        for d_a, d_out, c_of, o_of, ifg_of, forget, d_cell in reversed(list(steps)):
            n = len(d_a)
            d_h = d_out.clone()
            d_h[: len(later_h)] += later_h
            d_c = d_h * c_of
            if d_cell is not None:
                d_c += d_cell
            d_c[: len(later_c)] += later_c
            torch.mul(
                ifg_of.view(n, 3, size),
                d_c.unsqueeze(1),
                out=d_a[:, : 3 * size].view(n, 3, size),
            )
            torch.mul(d_h, o_of, out=d_a[:, 3 * size :])
            later_h = ctx.layouts.back(d_a)
            later_c = d_c.mul_(forget)
        d_u = sum_of_products(da, previous(h0, hidden, sizes))
        return da, None, later_h, later_c, d_u


class GRUThroughTime(torch.autograd.Function):
    r"""Recurrence of `GRU`, with the reset gate after the product with U.

    With a_t the gate inputs in order r, z, n, q_t = U_n h_{t-1} + b' and D = dL/dh_t:

        da_n = D * (1 - z) * (1 - n^2)     da_z = D * (h_{t-1} - n) * z * (1 - z)
        da_r = da_n * q_t * r * (1 - r)    dq = da_n * r
        dL/dh_{t-1} = D * z + U^T (da_r, da_z, dq) + the gradient of the output at t - 1
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, sizes: list[int], h0: Tensor, u: Tensor, b: Tensor
    ) -> Tensor:
        """Return the hidden states (W, H).

        Args:
            ctx: Stores what `backward` needs.
            inputs: W x_t + b, packed (W, 3 * H).
            sizes: Number of sequences still running at each step.
            h0: First hidden state (M, H).
            u: U (3 * H, H).
            b: Bias of the products with U (3 * H).
        """
        size = h0.shape[1]
        gates = inputs.clone()  # becomes r, z and n
        recurrent = inputs.new_empty(len(inputs), 3 * size)  # U h + b'; its last part is q
        hidden = inputs.new_empty(len(inputs), size)
        h = h0
        ctx.layouts = layouts = FewRows(u, transpose=True)
        for a, q, out in zip(
            *(whole.split(sizes) for whole in (gates, recurrent, hidden)), strict=True
        ):
            q.copy_(layouts.forward(h[: len(a)], b))
            rz, n = a[:, : 2 * size], a[:, 2 * size :]
            rz.add_(q[:, : 2 * size]).sigmoid_()
            n.addcmul_(rz[:, :size], q[:, 2 * size :]).tanh_()
            torch.lerp(n, h[: len(a)], rz[:, size:], out=out)
            h = out
        ctx.sizes = sizes
        ctx.save_for_backward(gates, recurrent[:, 2 * size :], hidden, h0, u)  # u: must not change
        return hidden

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `inputs`, the first state, U and its bias."""
        gates, q, hidden, h0, _ = ctx.saved_tensors
        sizes = ctx.sizes
        size = h0.shape[1]
        r, z, n = gates.chunk(3, dim=1)
        before = previous(h0, hidden, sizes)
        # The factors of D or da_n, for all words at once.
        to_n = (1 - z) * (1 - n * n)
        to_z = (before - n) * z * (1 - z)
        to_r = q * r * (1 - r)
        da = torch.empty_like(gates)  # r, z, n: gradient of the product with the input
        dq = torch.empty_like(gates)  # r, z, q: gradient of the product with U
        later = gradient.new_zeros(0, size)
        steps = zip(
            *(whole.split(sizes) for whole in (da, dq, gradient, to_n, to_z, to_r, r, z)),
            strict=True,
        )
        for d_a, d_q, d_out, n_of, z_of, r_of, reset, update in reversed(list(steps)):
            d_h = d_out.clone()
            d_h[: len(later)] += later
            d_n = torch.mul(d_h, n_of, out=d_a[:, 2 * size :])
            torch.mul(d_h, z_of, out=d_q[:, size : 2 * size])
            torch.mul(d_n, r_of, out=d_q[:, :size])
            torch.mul(d_n, reset, out=d_q[:, 2 * size :])
            later = d_h.mul_(update).add_(ctx.layouts.back(d_q))
        da[:, : 2 * size] = dq[:, : 2 * size]
        return da, None, later, sum_of_products(dq, before), dq.sum(0)
