//! The chat template of a language model: what was asked as a user's message, and where the answer begins.
//!
//! It is the Jinja template that transformers' `apply_chat_template` renders (`chat_template` of `tokenizer_config.json`,
//! `chat_template.jinja`, or `tokenizer.chat_template` of a GGUF), with one message of the user and the beginning of an answer.
//! The places of the texts go through it as they are, so that what comes out is a template again.

use std::{
    fs,
    path::Path,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use backbone::{Gguf, is_gguf};
use datasets::{Example, TextTokenizer, Words};
use minijinja::{
    Environment, Error, ErrorKind, State, context, syntax::SyntaxConfig, value::Value,
};
use serde_json::Value as Json;

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 24;

/// Instructions that a template may take, of which each 64 bytes of what it makes count as one: it is a program of the model's
/// maker. The longest of real models take some thousands.
const FUEL: u64 = 200_000;

/// The longest template, in bytes; those of real models have some ten thousand.
const MOST_TEMPLATE: usize = 1 << 16;

/// Room for a template whose every byte is an operator within the one before it.
const STACK: usize = 1 << 29;

/// How long a template may take: to print or compare a list of lists of lists takes no fuel. Real ones take a millisecond.
const MOST_TIME: Duration = Duration::from_secs(10);

/// What is known of a model's chats.
#[derive(Clone)]
struct Chat {
    template: String,
    /// The texts of the tokens that begin and end everything; empty where there is none.
    bos: String,
    eos: String,
}

/// Words asked for in the chat of the tokenizer at `path`: the template is the user's message, and the words begin an answer, so
/// that the space before each is left out.
///
/// # Errors
/// As [`message`].
pub fn asked(path: &Path, tokenizer: &TextTokenizer, words: &Words) -> Result<Words> {
    let answers = words.words.iter().map(|word| word.trim_start().to_owned());
    Ok(Words {
        template: message(path, tokenizer, &words.template)?,
        words: answers.collect(),
    })
}

/// A template as the user's message in the chat of the tokenizer at `path`, up to where the answer begins: a template again.
///
/// # Errors
/// If the tokenizer has no chat template, or one that cannot be rendered or loses the places of the texts.
pub fn message(path: &Path, tokenizer: &TextTokenizer, template: &str) -> Result<String> {
    let chat = match is_gguf(path) {
        true => of_gguf(path)?,
        false => of_folder(path)?,
    };
    let mut rendered = chat
        .render(template, MOST_TIME)
        .with_context(|| path.display().to_string())?;
    // A tokenizer that puts its first token before every text would put it there twice.
    let begins = |text: &str| -> Result<Option<u32>> {
        let example = Example {
            text: text.to_owned(),
            pair: None,
            label: None,
        };
        Ok(tokenizer.encode(&[example], 16)?.ids.first().copied())
    };
    if !chat.bos.is_empty() && rendered.starts_with(&chat.bos) {
        let own = tokenizer.encode_text(&chat.bos)?;
        if own.len() == 1 && begins("a")? == own.first().copied() {
            rendered.drain(..chat.bos.len());
        }
    }
    let whole = Words {
        template: rendered,
        words: Vec::new(),
    };
    let lost = whole.problems(template.contains("{pair}"), None);
    ensure!(
        lost.is_empty(),
        "{}: chat template: {}",
        path.display(),
        lost.join("; ")
    );
    Ok(whole.template)
}

fn none(path: &Path) -> anyhow::Error {
    anyhow!(
        "{}: backbone: chat: this tokenizer has no chat template; leave --set backbone.chat out, or take a model that was tuned for \
         chats",
        path.display()
    )
}

fn of_gguf(path: &Path) -> Result<Chat> {
    let gguf = Gguf::open(path)?;
    let template = gguf.text("tokenizer.chat_template");
    let tokens = gguf.texts("tokenizer.ggml.tokens").unwrap_or_default();
    let token = |name: &str| {
        let id = gguf.number(&format!("tokenizer.ggml.{name}_token_id"));
        let id = id.and_then(|id| usize::try_from(id).ok());
        id.and_then(|id| tokens.get(id))
            .cloned()
            .unwrap_or_default()
    };
    Ok(Chat {
        template: template.ok_or_else(|| none(path))?.to_owned(),
        bos: token("bos"),
        eos: token("eos"),
    })
}

fn of_folder(tokenizer: &Path) -> Result<Chat> {
    let folder = tokenizer.parent().unwrap_or(Path::new("."));
    let read = |name: &str| -> Result<Option<String>> {
        let path = folder.join(name);
        let Ok(known) = fs::metadata(&path) else {
            return Ok(None);
        };
        ensure!(
            known.is_file() && known.len() <= MOST_BYTES,
            "{}: is not a file of at most {MOST_BYTES} bytes",
            path.display()
        );
        let text = fs::read_to_string(&path);
        Ok(Some(text.with_context(|| path.display().to_string())?))
    };
    let name = "tokenizer_config.json";
    let config: Json = match read(name)? {
        Some(text) => {
            serde_json::from_str(&text).with_context(|| folder.join(name).display().to_string())?
        }
        None => Json::Null,
    };
    let token = |key: &str| match &config[key] {
        Json::String(text) => text.clone(),
        other => other["content"].as_str().unwrap_or_default().to_owned(),
    };
    let of_config = match &config["chat_template"] {
        Json::String(template) => Some(template.clone()),
        // Several with names: transformers takes the one called default.
        Json::Array(all) => all
            .iter()
            .find(|one| one["name"] == "default")
            .and_then(|one| one["template"].as_str())
            .map(str::to_owned),
        _ => None,
    };
    let template = match read("chat_template.jinja")? {
        Some(template) => Some(template),
        None => of_config,
    };
    Ok(Chat {
        template: template.ok_or_else(|| none(tokenizer))?,
        bos: token("bos_token"),
        eos: token("eos_token"),
    })
}

impl Chat {
    /// On a thread of its own; one that takes longer than `most` is left to the end of the process.
    fn render(&self, message: &str, most: Duration) -> Result<String> {
        let at = "chat template";
        ensure!(
            self.template.len() <= MOST_TEMPLATE,
            "{at}: it has {} bytes; at most {MOST_TEMPLATE} are read",
            self.template.len()
        );
        let (chat, message) = (self.clone(), message.to_owned());
        let (send, rendered) = sync_channel(1);
        let thread = thread::Builder::new().stack_size(STACK);
        thread
            .spawn(move || send.send(chat.run(&message)))
            .context(at)?;
        let rendered = match rendered.recv_timeout(most) {
            Ok(rendered) => rendered,
            Err(RecvTimeoutError::Timeout) => {
                bail!("{at}: it takes longer than {most:?}: it repeats something too often")
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{at}: the engine that renders it stopped")
            }
        };
        let rendered = rendered.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => {
                anyhow!("it takes more than {FUEL} steps: it repeats something too often")
            }
            _ => error.into(),
        });
        rendered.context(at)
    }

    fn run(&self, message: &str) -> std::result::Result<String, Error> {
        let mut jinja = Environment::new();
        // As transformers sets up Jinja.
        jinja.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()?,
        );
        jinja.set_unknown_method_callback(python_method);
        jinja.set_fuel(Some(FUEL));
        let refuse = |message: String| -> std::result::Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        };
        jinja.add_function("raise_exception", refuse);
        jinja.render_str(
            &self.template,
            context! {
                messages => vec![context! { role => "user", content => message }],
                add_generation_prompt => true,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
            },
        )
    }
}

/// Methods of Python's texts and tables that templates call.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> std::result::Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    let Some(text) = value.as_str() else {
        return match method {
            "items" => state.apply_filter("items", std::slice::from_ref(value)),
            "get" => {
                let key = arguments.first().ok_or_else(unknown)?;
                let found = value.get_item(key)?;
                let other = arguments.get(1).cloned().unwrap_or(().into());
                Ok(if found.is_undefined() { other } else { found })
            }
            _ => Err(unknown()),
        };
    };
    let argument = |i: usize| arguments.get(i).and_then(Value::as_str);
    state.consume_fuel(text.len() as u64)?;
    let is_stripped = |c: char| match argument(0) {
        Some(characters) => characters.contains(c),
        None => c.is_whitespace(),
    };
    // An argument that is not followed is refused: it would change what comes out.
    Ok(match (method, arguments.len(), argument(0)) {
        ("strip", 0, _) | ("strip", 1, Some(_)) => text.trim_matches(is_stripped).into(),
        ("lstrip", 0, _) | ("lstrip", 1, Some(_)) => text.trim_start_matches(is_stripped).into(),
        ("rstrip", 0, _) | ("rstrip", 1, Some(_)) => text.trim_end_matches(is_stripped).into(),
        ("startswith", 1, Some(start)) => text.starts_with(start).into(),
        ("endswith", 1, Some(end)) => text.ends_with(end).into(),
        // The library's, which pays for what it makes.
        ("replace", 2, Some(_)) if argument(1).is_some() => {
            return state.apply_filter(
                "replace",
                &[std::slice::from_ref(value), arguments].concat(),
            );
        }
        ("split", 1, Some(at)) if !at.is_empty() => Value::from_iter(text.split(at)),
        ("split", 2, Some(at)) if !at.is_empty() => {
            let most = usize::try_from(arguments[1].clone())?;
            Value::from_iter(text.splitn(most.saturating_add(1), at))
        }
        ("split", 0, _) => Value::from_iter(text.split_whitespace()),
        ("upper", 0, _) => text.to_uppercase().into(),
        ("lower", 0, _) => text.to_lowercase().into(),
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rendered(template: &str, message: &str) -> Result<String> {
        let chat = Chat {
            template: template.to_owned(),
            bos: "<s>".to_owned(),
            eos: "</s>".to_owned(),
        };
        chat.render(message, MOST_TIME)
    }

    /// In the manner of the templates that models have: roles between marks, a message of the system that is put in, blocks on lines of
    /// their own, methods of Python.
    const MARKED: &str = "{%- if messages[0]['role'] != 'system' %}
    {{- bos_token + '[system]\nBe brief.[end]\n' }}
{%- endif %}
{%- set ns = namespace(last='') %}
{%- for message in messages[::-1] %}
    {%- if message.content is string and not message.content.startswith('<') %}
        {%- set ns.last = message.content.strip().split('\n')[-1] %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '[' + message['role'] + ']\n' + message['content'] + '[end]\n' }}
{%- endfor %}
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}
    {{- '[assistant]\n' }}
{%- endif %}";

    #[test]
    fn the_users_message_stands_in_its_place_and_the_answer_begins() {
        let found = rendered(MARKED, "Review: {text}\nGood or bad?").unwrap();
        assert_eq!(
            found,
            "<s>[system]\nBe brief.[end]\n[user]\nReview: {text}\nGood or bad?[end]\n[assistant]\n"
        );
        // A block alone on its line leaves nothing of the line behind, as in transformers.
        let lines = "{% for m in messages %}\n  {% if true %}\n{{ m.content }}{{ eos_token }}\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(rendered(lines, "{{ x }}").unwrap(), "{{ x }}</s>\n");
        assert_eq!(
            rendered("{{ messages[0].get('name', 'nobody') }}", "").unwrap(),
            "nobody"
        );
    }

    #[test]
    fn methods_of_texts_follow_all_their_arguments_or_are_refused() {
        // What Python gives.
        for (call, expected) in [
            ("'a-b-c'.split('-')|join('|')", "a|b|c"),
            ("'a-b-c'.split('-', 1)|join('|')", "a|b-c"),
            ("'a-b-c'.split('-', 1)[-1]", "b-c"),
            ("' a  b '.split()|join('|')", "a|b"),
            ("'xaxx'.strip('x')", "a"),
            ("'xaxx'.rstrip('x')", "xa"),
            ("'aXb'.lower() ~ 'aXb'.upper()", "axbAXB"),
        ] {
            let found = rendered(&format!("{{{{ {call} }}}}"), "").unwrap();
            assert_eq!(found, expected, "{call}");
        }
        for call in [
            "'a b c'.split(none, 1)",
            "'a-b-c'.split('-', maxsplit=1)",
            "'aaa'.replace('a', 'b', 1)",
            "'ab'.startswith('b', 1)",
            "'ab'.strip('a', 'b')",
        ] {
            let found = rendered(&format!("{{{{ {call} }}}}"), "");
            assert!(found.is_err(), "{call}: {found:?}");
        }
    }

    #[test]
    fn a_template_that_refuses_or_is_wrong_says_so() {
        let says = |template: &str, part: &str| {
            let message = format!("{:#}", rendered(template, "x").unwrap_err());
            assert!(message.contains(part), "{message}");
        };
        says(
            "{{ raise_exception('a system message first') }}",
            "a system message first",
        );
        says("{{ messages[0].content.swapcase() }}", "swapcase");
        says("{% for %}", "syntax");
        // The language's own bounds.
        says("{{ range(1000000000) }}", "range");
    }

    #[test]
    fn a_template_that_repeats_something_too_often_is_given_up() {
        let twice = "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ";
        for template in [
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{% for i in range(100000) %}{{ messages[0].content * 1000 }}{% endfor %}",
            &format!("{twice}ns.x ~ ns.x %}}{{% endfor %}}{{{{ ns.x }}}}"),
            &format!("{twice}ns.x + ns.x %}}{{% endfor %}}"),
            &format!("{twice}ns.x * 9 %}}{{% endfor %}}"),
            &format!("{twice}ns.x.replace('a', 'aaaa') %}}{{% endfor %}}"),
            &format!("{twice}ns.x|replace('a', 'aaaa') %}}{{% endfor %}}"),
            "{{ 'a' * 1000000000 }}",
            "{{ range(100000)|join('x' * 100000) }}",
            "{{ ('a\n' * 100000)|indent(100000) }}",
        ] {
            let message = match rendered(template, "x") {
                Err(error) => format!("{error:#}"),
                Ok(text) => format!("{} bytes", text.len()),
            };
            assert!(
                message.contains("repeats something too often"),
                "{template}: {message}"
            );
        }
    }

    #[test]
    fn a_template_of_operators_within_each_other_is_followed_or_refused() {
        let filled = |open: &str, step: &str, close: &str| {
            let room = MOST_TEMPLATE - open.len() - close.len();
            let steps = step.repeat(room / step.len());
            rendered(&format!("{open}{steps}{close}"), "x")
        };
        for (open, step, close, text) in [
            ("{{ ", "not ", "1 }}", "True"),
            ("{{ ", "-", "1 }}", "-1"),
            ("{{ 1", "**1", " }}", "1"),
            ("{{ 0", "+0", " }}", "0"),
            ("{{ 'A'", "|lower", " }}", "a"),
            ("{% if 0 %}", "{% elif 0 %}", "{% endif %}", ""),
        ] {
            assert_eq!(filled(open, step, close).unwrap(), text, "{step}");
        }
        for step in ["[", "("] {
            let message = format!("{:#}", filled("{{ ", step, "1 }}").unwrap_err());
            assert!(message.contains("recursion limits"), "{message}");
        }
        let message = rendered(&"x".repeat(MOST_TEMPLATE + 1), "x").unwrap_err();
        assert!(format!("{message:#}").contains("65537 bytes"), "{message}");
    }

    #[test]
    fn a_template_that_takes_long_without_a_step_is_given_up() {
        let twice = "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(22) %}\
                     {% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
        for end in ["{{ ns.x }}", "{{ ns.x|tojson }}", "{{ ns.x == ns.y }}"] {
            let chat = Chat {
                template: format!("{twice}{end}"),
                bos: String::new(),
                eos: String::new(),
            };
            let message = match chat.render("x", Duration::from_millis(5)) {
                Err(error) => format!("{error:#}"),
                Ok(text) => format!("{} bytes", text.len()),
            };
            assert!(
                message.contains("repeats something too often"),
                "{end}: {message}"
            );
        }
    }
}
