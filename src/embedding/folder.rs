//! The files of a model: those compiled in, or a folder as sentence-transformers keeps it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::weights::Weights;
use super::{EmbedError, ModelInfo};

/// Largest settings file read, in bytes.
const SETTINGS_MAX: u64 = 1 << 20;
/// Largest tokenizer.json read, in bytes. The largest vocabularies of the family take about 20 MB.
const TOKENIZER_MAX: u64 = 64 << 20;
/// Word pieces that a model must read at least: the two marks and one between them.
const WINDOW_MIN: usize = 3;

/// What a model is made of, read but not yet loaded.
pub(super) struct ModelFiles {
    pub(super) info: ModelInfo,
    pub(super) config: Config,
    pub(super) pooling: Pooling,
    /// A `tokenizer.json`.
    pub(super) tokenizer: Cow<'static, [u8]>,
    pub(super) weights: Weights,
}

/// How the vectors of the tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the mark at the beginning.
    First,
}

/// The fields of `config.json` that shape the network.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) vocab_size: usize,
    pub(super) layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

impl Config {
    /// What of it this program cannot compute.
    fn check(&self) -> Result<(), String> {
        /// Bounds what sums of products of 8-bit numbers can reach: 2^16 · 255 · 127 < 2^31.
        const SIZE_MAX: usize = 1 << 16;
        let Self { hidden_act, model_type, position_embedding_type, .. } = self;
        if hidden_act != "gelu" {
            return Err(format!("no activation named {hidden_act:?}, only gelu"));
        }
        if let Some(model_type) = model_type
            && model_type != "bert"
        {
            return Err(format!("no network of type {model_type:?}, only bert"));
        }
        if let Some(positions) = position_embedding_type
            && positions != "absolute"
        {
            return Err(format!("no positions of type {positions:?}, only absolute"));
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_hidden_layers", self.num_hidden_layers),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, size)) = sizes.into_iter().find(|(_, n)| !(1..=SIZE_MAX).contains(n)) {
            return Err(format!("{name} cannot be {size}"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err("num_attention_heads does not divide hidden_size".to_owned());
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return Err(format!("layer_norm_eps cannot be {}", self.layer_norm_eps));
        }
        Ok(())
    }
}

impl ModelFiles {
    /// The model that is compiled in.
    pub(super) fn built_in() -> Result<Self, EmbedError> {
        const CONFIG: &[u8] = include_bytes!("../../assets/models/all-MiniLM-L6-v2/config.json");
        let info = ModelInfo::built_in();
        let config = config(CONFIG, "config.json")?;
        if config.hidden_size != info.dim || config.max_position_embeddings < info.max_tokens {
            return Err(EmbedError::Model("config.json: is another model's".to_owned()));
        }
        let weights = Weights::in_memory("model.safetensors", WEIGHTS)?;
        let tokenizer = Cow::Borrowed(TOKENIZER);
        Ok(Self { info, config, pooling: Pooling::Mean, tokenizer, weights })
    }

    /// Those of a folder: `config.json`, `tokenizer.json` and `model.safetensors`; where they are
    /// there, `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json` and
    /// `tokenizer_config.json` count too.
    pub(super) fn open(folder: &Path) -> Result<Self, EmbedError> {
        let path = folder.join("config.json");
        let config = config(&bytes(&path, SETTINGS_MAX)?, &path.display().to_string())?;
        check_modules(folder)?;
        let pooling = pooling(folder)?;
        let max_tokens = window(folder, &config)?;
        let tokenizer = Cow::Owned(bytes(&folder.join("tokenizer.json"), TOKENIZER_MAX)?);
        let weights = Weights::open(&folder.join("model.safetensors"))?;
        let whole = folder.canonicalize();
        let name = whole.as_deref().unwrap_or(folder).file_name().unwrap_or(folder.as_os_str());
        let name = name.to_string_lossy().into_owned();
        let info = ModelInfo { name, dim: config.hidden_size, max_tokens };
        Ok(Self { info, config, pooling, tokenizer, weights })
    }
}

/// The weights: safetensors, f16.
pub(super) static WEIGHTS: &[u8] =
    include_bytes!("../../assets/models/all-MiniLM-L6-v2/model.safetensors");
/// The vocabulary and the rules of splitting.
pub(super) static TOKENIZER: &[u8] =
    include_bytes!("../../assets/models/all-MiniLM-L6-v2/tokenizer.json");

fn config(json: &[u8], name: &str) -> Result<Config, EmbedError> {
    let fault = |what: String| EmbedError::Model(format!("{name}: {what}"));
    let config: Config = serde_json::from_slice(json).map_err(|error| fault(error.to_string()))?;
    config.check().map_err(fault)?;
    Ok(config)
}

/// A module of a sentence-transformers model.
#[derive(Deserialize)]
struct Module {
    r#type: String,
    #[serde(default)]
    path: String,
}

/// The folder of the pooling settings.
const POOLING: &str = "1_Pooling";

/// Refuses steps that would be left out. Vectors always get length 1, so normalising is no step.
fn check_modules(folder: &Path) -> Result<(), EmbedError> {
    let path = folder.join("modules.json");
    let fault = |what: String| EmbedError::Model(format!("{}: {what}", path.display()));
    let modules: Vec<Module> = optional(&path)?.unwrap_or_default();
    for Module { r#type, path } in modules {
        let step = r#type.rsplit('.').next().unwrap_or_default();
        // What is elsewhere would not be read.
        let place = match step {
            "Transformer" => "",
            "Pooling" => POOLING,
            "Normalize" => continue,
            _ => return Err(fault(format!("no module of type {type:?}", type = r#type))),
        };
        if path != place {
            return Err(fault(format!("the path of {step} must be {place:?}, not {path:?}")));
        }
    }
    Ok(())
}

/// The fields of `1_Pooling/config.json`: the name of a mode or several, or as it was before
/// sentence-transformers 6, a field for each that may be true.
#[derive(Deserialize)]
#[serde(default)]
struct PoolingModes {
    pooling_mode: Option<OneOrMore>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for PoolingModes {
    fn default() -> Self {
        Self {
            pooling_mode: None,
            pooling_mode_cls_token: false,
            pooling_mode_mean_tokens: true,
            pooling_mode_max_tokens: false,
            pooling_mode_mean_sqrt_len_tokens: false,
            pooling_mode_weightedmean_tokens: false,
            pooling_mode_lasttoken: false,
        }
    }
}

fn pooling(folder: &Path) -> Result<Pooling, EmbedError> {
    let path = folder.join(POOLING).join("config.json");
    let fault = |what: &str| EmbedError::Model(format!("{}: {what}", path.display()));
    let PoolingModes {
        pooling_mode: named,
        pooling_mode_cls_token: first,
        // The mean over the root of the length is the mean, once scaled to length 1.
        pooling_mode_mean_sqrt_len_tokens: rooted,
        pooling_mode_mean_tokens: mean,
        pooling_mode_max_tokens: max,
        pooling_mode_weightedmean_tokens: weighted,
        pooling_mode_lasttoken: last,
    } = optional(&path)?.unwrap_or_default();
    let named = named.map(|named| match named {
        OneOrMore::One(name) => vec![name],
        OneOrMore::More(names) => names,
    });
    if let Some(names) = named {
        return match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["cls"] => Ok(Pooling::First),
            ["mean" | "mean_sqrt_len_tokens"] => Ok(Pooling::Mean),
            _ => Err(fault("pooling_mode must be \"cls\" or \"mean\"")),
        };
    }
    match (first, mean || rooted, max || weighted || last) {
        (true, false, false) => Ok(Pooling::First),
        (false, true, false) => Ok(Pooling::Mean),
        _ => Err(fault(
            "exactly one of pooling_mode_cls_token and pooling_mode_mean_tokens must be true, and \
             no other mode",
        )),
    }
}

/// The fields of `sentence_bert_config.json` that are read.
#[derive(Deserialize)]
struct SentenceConfig {
    #[serde(default)]
    max_seq_length: Option<usize>,
}

/// The field of `tokenizer_config.json` that is read. Where no length was set it is an integer
/// near 10^30.
#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    model_max_length: Option<f64>,
}

/// Word pieces read of a text: what the model was saved with, in one file or, since
/// sentence-transformers 6, the other; no more than it has positions for.
fn window(folder: &Path, config: &Config) -> Result<usize, EmbedError> {
    let mut path = folder.join("sentence_bert_config.json");
    let typed: Option<SentenceConfig> = optional(&path)?;
    let mut length = typed.and_then(|typed| typed.max_seq_length);
    if length.is_none() {
        path = folder.join("tokenizer_config.json");
        let typed: Option<TokenizerConfig> = optional(&path)?;
        // Floats that are no length, as too large or negative ones, become the nearest.
        length = typed.and_then(|typed| typed.model_max_length).map(|length| length as usize);
    }
    let positions = config.max_position_embeddings;
    let window = length.unwrap_or(positions).min(positions);
    if window < WINDOW_MIN {
        let what = format!("a model cannot read {window} tokens, {WINDOW_MIN} at least");
        return Err(EmbedError::Model(format!("{}: {what}", path.display())));
    }
    Ok(window)
}

/// A settings file that may be missing.
fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EmbedError> {
    match path.try_exists() {
        Ok(false) => Ok(None),
        _ => serde_json::from_slice(&bytes(path, SETTINGS_MAX)?)
            .map(Some)
            .map_err(|error| EmbedError::Model(format!("{}: {error}", path.display()))),
    }
}

fn bytes(path: &Path, max: u64) -> Result<Vec<u8>, EmbedError> {
    let fault =
        |what: &dyn std::fmt::Display| EmbedError::Model(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => fault(&"is missing"),
        _ => fault(&error),
    })?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| fault(&error))?;
    if bytes.len() as u64 > max {
        return Err(fault(&format!("is larger than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
