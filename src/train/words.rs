//! Classification through words of the vocabulary: nothing but the method is trained, and what the language model knows of
//! the words is the classifier (Lester et al. 2021, arXiv:2104.08691).

use anyhow::{Context, Result, bail, ensure};
use backbone::{Backbone, HeadKind, Pooling};
use candle_core::Tensor;
use datasets::{Dataset, Words};

use super::head::Head;
use crate::{chat, prepare::LoadedBackbone};

/// The words of a data set where the backbone is read by words, `asked` for by the user or not. A backbone that is read so
/// by its YAML gets a classifier where the data set has no words.
///
/// # Errors
/// If words are asked for and cannot be used; the message says what to do.
pub fn choose(
    data: &Dataset,
    loaded: &mut LoadedBackbone,
    asked: bool,
    note: impl Fn(&str),
) -> Result<Option<Words>> {
    if loaded.head != HeadKind::Words {
        ensure!(
            !loaded.chat || loaded.head == HeadKind::Vocabulary,
            "backbone: chat: true asks for words in a chat, but backbone.head={} trains a classifier: leave one of the two out",
            loaded.head.name()
        );
        return Ok(None);
    }
    let of_classes = data.objective.is_classification();
    if (asked || loaded.chat) && !of_classes {
        bail!(
            "backbone: head: words: a word stands for one class of several, but the objective of '{}' is {}; train a classifier: leave \
             --template and --words out, and --set backbone.head=score",
            data.name,
            data.objective.name()
        );
    }
    let Some(words) = data.words.as_ref().filter(|_| of_classes) else {
        if asked || loaded.chat {
            bail!(
                "backbone: head: words: the data set '{}' has no words for its classes; name them with --template and \
                 --words, or train a classifier: --set backbone.head=score",
                data.name
            );
        }
        loaded.head = HeadKind::Score;
        note(&format!(
            "the data set '{}' has no words for its classes, so a classifier is trained on top of '{}'; --template and \
             --words name words",
            data.name, loaded.name
        ));
        return Ok(None);
    };
    let config = loaded.backbone.config();
    if !config.description.causal || loaded.backbone.pooling() != Pooling::Last {
        bail!(
            "backbone: head: words needs a decoder that is read at its last token; '{}' is a {} with pooling {}",
            loaded.name,
            config.architecture.name(),
            loaded.backbone.pooling().name()
        );
    }
    let words = match loaded.chat {
        true => chat::asked(&loaded.files[1], &loaded.tokenizer, words)?,
        false => words.clone(),
    };
    words.ids(&loaded.tokenizer)?;
    Ok(Some(words))
}

/// The method of this name where classes are words, or texts are written: without a classifier, `head_only` is the zero-shot
/// floor. `tied` says whether the output over the vocabulary is the table of embeddings.
///
/// # Errors
/// If the method makes no sense with this kind of head, or would not be what the Python libraries make of its name.
pub fn method(name: &str, head: HeadKind, tied: bool) -> Result<&str> {
    match (name, head) {
        ("full", HeadKind::Words | HeadKind::Vocabulary) if !tied => bail!(
            "full trains every weight of a model, but this one has an output matrix of its own (lm_head, which is not tied to the \
             embeddings), and that stays frozen here: leave full out, or train a classifier with --set backbone.head=score"
        ),
        ("head_only", HeadKind::Words | HeadKind::Vocabulary) => Ok("zero_shot"),
        ("majority" | "random_features" | "linear_probe" | "knn", HeadKind::Vocabulary) => bail!(
            "{name} is a classifier, and a completion is a text: leave it out; zero_shot is the floor here"
        ),
        ("random_features", HeadKind::Words) => bail!(
            "random_features trains nothing but a classifier, and words have none: leave it out, or train one with --set \
             backbone.head=score"
        ),
        ("linear_probe", other) if other != HeadKind::Linear => bail!(
            "linear_probe is a logistic regression, but the head is '{}': use another method, or --set backbone.head=linear",
            other.name()
        ),
        ("knn", HeadKind::Words) => bail!(
            "knn asks the nearest training examples, not words: leave it out, or train a classifier with --set \
             backbone.head=score"
        ),
        ("zero_shot", other) if !matches!(other, HeadKind::Words | HeadKind::Vocabulary) => bail!(
            "zero_shot asks the language model's own words, but here a classifier is trained (backbone.head={}): use \
             head_only, or words with --set backbone.head=words",
            other.name()
        ),
        _ => Ok(name),
    }
}

/// The classifier that scores the words' first tokens by the output matrix of the language model; `own` is the backbone of
/// a method that trains all of it.
///
/// # Errors
/// If two words cannot be told apart, or the checkpoint has no output matrix.
pub fn head(words: &Words, loaded: &LoadedBackbone, own: Option<&Backbone>) -> Result<Head> {
    let ids = words.ids(&loaded.tokenizer)?;
    let backbone = own.unwrap_or(&loaded.backbone);
    let table = output_matrix(loaded, backbone)?;
    if backbone.config().description.tied {
        return Ok(Head::of_words(table, ids)?);
    }
    let rows = kernels::select_rows(&table, &ids)?;
    Ok(Head::of_words(rows, (0..ids.len() as u32).collect())?)
}

/// The output matrix `[V, H]` of the language model: its table of embeddings, or one of its own, which nothing trains.
///
/// # Errors
/// If the checkpoint has none.
pub fn output_matrix(loaded: &LoadedBackbone, backbone: &Backbone) -> Result<Tensor> {
    if backbone.config().description.tied {
        return Ok(backbone.word_embeddings().clone());
    }
    let [.., path] = &loaded.files;
    backbone::output_matrix(path, backbone.config())
        .with_context(|| format!("{}: words need the language model's output", path.display()))
}
