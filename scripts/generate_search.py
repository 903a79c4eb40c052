"""Hugging Face `generate` around any step, for the benchmarks of search to compare with."""

from collections.abc import Callable

import torch
from torch import Tensor

START, END = 1, 0
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], tuple[Tensor, State]]
Generate = Callable[[Step, Tensor, State], Tensor]


def generate_around(
    width: int, max_length: int, vocab_size: int, device: torch.device
) -> Generate | None:
    """Wrap Hugging Face `generate` around any step; return None without transformers."""
    try:
        import transformers
        from transformers.modeling_outputs import CausalLMOutputWithPast
    except ImportError:
        return None
    transformers.logging.set_verbosity_error()
    # The state that generate passes from step to step; renamed in transformers 5.24.
    named = CausalLMOutputWithPast.__dataclass_fields__
    carried = "cache" if "cache" in named else "past_key_values"

    class Config(transformers.PretrainedConfig):
        model_type = "benchmark_lstm"

    class Model(transformers.PreTrainedModel, transformers.GenerationMixin):
        config_class = Config

        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.nothing = torch.nn.Parameter(torch.zeros(1, device=device))
            self.step: Step | None = None

        @classmethod
        def _supports_default_dynamic_cache(cls) -> bool:
            return False

        def prepare_inputs_for_generation(  # type: ignore[no-untyped-def]
            self, input_ids, **kwargs
        ) -> dict[str, object]:
            given = tuple(kwargs[name] for name in sorted(kwargs) if name.startswith("state_"))
            return {"ids": input_ids[:, -1], "state": kwargs.get(carried) or given}

        def forward(  # type: ignore[no-untyped-def]
            self, ids, state, return_dict=True, **_
        ) -> CausalLMOutputWithPast:
            assert self.step is not None
            logits, state = self.step(ids, state)
            return CausalLMOutputWithPast(logits=logits.unsqueeze(1), **{carried: state})

        def _reorder_cache(self, state: State, beam_idx: Tensor) -> State:
            return tuple(tensor.index_select(0, beam_idx) for tensor in state)

        def _validate_model_kwargs(self, model_kwargs: dict[str, object]) -> None:
            pass

    model = Model(Config(vocab_size=vocab_size)).eval()

    def generate(step: Step, ids: Tensor, state: State) -> Tensor:
        model.step = step
        found: Tensor = model.generate(
            ids.unsqueeze(1),
            attention_mask=torch.ones_like(ids).unsqueeze(1),
            **{f"state_{i}": tensor for i, tensor in enumerate(state)},
            num_beams=width,
            do_sample=False,
            max_new_tokens=max_length,
            eos_token_id=END,
            pad_token_id=END,
            bos_token_id=START,
            length_penalty=0.0,
        )
        return found[:, 1:]

    return generate
