//! What a model's answer tells of itself, read as it passes: its name, and the tokens that it took.
//!
//! Nothing is kept of an answer but these, and of a text that may turn out to be a key or the model's name its first bytes.

use std::sync::Arc;

use super::fault::{At, Faults, way};
use super::spec::GenAiSpec;
use super::told::{Tokens, Told};

/// Where a dialect's answers tell it: a tree of keys.
#[derive(Debug, Default)]
pub(super) struct Tellers {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(String, usize)>,
    tells: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Model,
    Tokens(Tokens),
}

/// Follows one answer: a JSON text, lines of them, or events that bear them, in pieces cut anywhere. It takes what it reads for
/// well-formed; of what is not it tells nothing, or less.
#[derive(Debug)]
pub struct Listener {
    tellers: Arc<Tellers>,
    /// The open objects and arrays that lead to something.
    here: Vec<usize>,
    /// Those below them that lead to nothing.
    below: u32,
    /// What the last key leads to.
    next: Option<usize>,
    /// A value is expected, not a key.
    behind_colon: bool,
    state: State,
    text: Vec<u8>,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// In a string; whether it is kept, and whether the last byte was a backslash.
    Text {
        kept: bool,
        escape: bool,
    },
    Number,
}

/// Longer keys and names are not looked at.
const TEXT_MAX: usize = 128;

impl Tellers {
    pub(super) fn compile(spec: &GenAiSpec, faults: &mut Faults) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        let all = [
            ("model", &spec.model, What::Model),
            ("input_tokens", &spec.input_tokens, What::Tokens(Tokens::Input)),
            ("output_tokens", &spec.output_tokens, What::Tokens(Tokens::Output)),
            ("cache_read_tokens", &spec.cache_read_tokens, What::Tokens(Tokens::CacheRead)),
            ("cache_creation_tokens", &spec.cache_creation_tokens, What::Tokens(Tokens::CacheCreation)),
            ("reasoning_tokens", &spec.reasoning_tokens, What::Tokens(Tokens::Reasoning)),
        ];
        for (key, pointers, what) in all {
            for (number, pointer) in pointers.iter().enumerate() {
                if !tree.add(pointer, what) {
                    let at: Vec<At> = way!["gen_ai", key, number];
                    faults.tell(
                        at,
                        "must be a JSON pointer of plain keys, such as \"/usage/input_tokens\"",
                        "",
                    );
                }
            }
        }
        for (number, operation) in spec.operation.iter().enumerate() {
            if operation.name.is_empty() || operation.path.is_empty() {
                faults.tell(way!["gen_ai", "operation", number], "must have `name` and `path`", "");
            }
        }
        tree
    }

    fn add(&mut self, pointer: &str, what: What) -> bool {
        let Some(keys) = pointer.strip_prefix('/') else { return false };
        if keys.split('/').any(|key| key.is_empty() || key == "*" || key.contains('~')) {
            return false;
        }
        let mut here = 0;
        for key in keys.split('/') {
            here = match self.child(here, key.as_bytes()) {
                Some(known) => known,
                None => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    if let Some(node) = self.nodes.get_mut(here) {
                        node.children.push((key.to_owned(), new));
                    }
                    new
                }
            };
        }
        if let Some(node) = self.nodes.get_mut(here) {
            node.tells = Some(what);
        }
        true
    }

    fn child(&self, of: usize, key: &[u8]) -> Option<usize> {
        let children = &self.nodes.get(of)?.children;
        children.iter().find(|(own, _)| own.as_bytes() == key).map(|(_, child)| *child)
    }

    fn tells(&self, node: usize) -> Option<What> {
        self.nodes.get(node)?.tells
    }
}

impl Listener {
    pub(super) fn new(tellers: &Arc<Tellers>) -> Self {
        Self {
            tellers: Arc::clone(tellers),
            here: Vec::new(),
            below: 0,
            next: None,
            behind_colon: false,
            state: State::Between,
            text: Vec::new(),
            told: Told::default(),
        }
    }

    /// What was told so far.
    #[must_use]
    pub const fn told(&self) -> &Told {
        &self.told
    }

    /// The next piece.
    pub fn hear(&mut self, mut piece: &[u8]) {
        while let Some((first, rest)) = piece.split_first() {
            piece = match self.state {
                State::Between if self.here.is_empty() => match memchr::memchr(b'{', piece) {
                    Some(at) => {
                        self.here.push(0);
                        piece.get(at + 1..).unwrap_or_default()
                    }
                    None => return,
                },
                State::Between => {
                    self.between(*first);
                    rest
                }
                State::Text { kept, escape: true } => {
                    // A key or a name that bears an escape is none of those that are looked for.
                    self.state = State::Text { kept, escape: false };
                    self.keep(kept, b"\0");
                    rest
                }
                State::Text { kept, escape: false } => {
                    let at = memchr::memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
                    self.keep(kept, piece.get(..at).unwrap_or_default());
                    match piece.get(at) {
                        Some(b'"') => self.text_ended(kept),
                        Some(_) => self.state = State::Text { kept, escape: true },
                        None => {}
                    }
                    piece.get(at + 1..).unwrap_or_default()
                }
                State::Number if first.is_ascii_digit() => {
                    self.keep(true, &[*first]);
                    rest
                }
                State::Number => {
                    self.number_ended();
                    piece
                }
            };
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                match self.next.take().filter(|_| byte == b'{' && self.below == 0) {
                    Some(node) => self.here.push(node),
                    None => self.below = self.below.saturating_add(1),
                }
                self.behind_colon = false;
            }
            b'}' | b']' => {
                match self.below.checked_sub(1) {
                    Some(less) => self.below = less,
                    None => drop(self.here.pop()),
                }
                (self.next, self.behind_colon) = (None, false);
            }
            b'"' => {
                let a_key = self.below == 0 && !self.behind_colon;
                let kept = a_key || self.tells() == Some(What::Model);
                self.state = State::Text { kept, escape: false };
            }
            b':' => self.behind_colon = true,
            b',' => (self.next, self.behind_colon) = (None, false),
            b'0'..=b'9' if matches!(self.tells(), Some(What::Tokens(_))) => {
                self.keep(true, &[byte]);
                self.state = State::Number;
            }
            _ => {}
        }
    }

    /// What the value that comes tells, if it is one that is looked for.
    fn tells(&self) -> Option<What> {
        self.next.filter(|_| self.behind_colon && self.below == 0).and_then(|node| self.tellers.tells(node))
    }

    fn keep(&mut self, kept: bool, bytes: &[u8]) {
        if kept {
            let room = (TEXT_MAX + 1).saturating_sub(self.text.len()).min(bytes.len());
            self.text.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
    }

    fn text_ended(&mut self, kept: bool) {
        self.state = State::Between;
        if !kept {
            return;
        }
        if self.behind_colon {
            let name = std::str::from_utf8(&self.text).ok();
            let good = |name: &&str| name.len() <= TEXT_MAX && !name.chars().any(char::is_control);
            if let Some(name) = name.filter(good).filter(|name| !name.is_empty()) {
                self.told.model = Some(name.to_owned());
            }
        } else {
            self.next = self.here.last().and_then(|here| self.tellers.child(*here, &self.text));
        }
        self.text.clear();
    }

    fn number_ended(&mut self) {
        self.state = State::Between;
        let number = std::str::from_utf8(&self.text).ok().and_then(|text| text.parse().ok());
        if let (Some(What::Tokens(tokens)), Some(number)) = (self.tells(), number) {
            *self.told.place(tokens) = Some(number);
        }
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::builtin;

    fn told(dialect: &str, text: &str) -> Told {
        let dialect = builtin::dialect(dialect).unwrap();
        let mut whole = dialect.listener();
        whole.hear(text.as_bytes());
        for length in 1..text.len().min(40) {
            let mut cut = dialect.listener();
            text.as_bytes().chunks(length).for_each(|piece| cut.hear(piece));
            assert_eq!(cut.told(), whole.told(), "in pieces of {length}");
        }
        whole.told().clone()
    }

    fn of(model: &str, input: u64, output: u64) -> Told {
        let (model, input_tokens, output_tokens) = (Some(model.to_owned()), Some(input), Some(output));
        Told { model, input_tokens, output_tokens, ..Told::default() }
    }

    #[test]
    fn an_answer_tells_its_model_and_its_tokens() {
        let text = r#"{"id":"c","choices":[{"message":{"content":"{\"model\":\"no\"} \\","model":"no"}}],"model": "gpt-5",
            "usage":{"prompt_tokens":12,"completion_tokens":345,"details":{"prompt_tokens":9}}}"#;
        assert_eq!(told("openai", text), of("gpt-5", 12, 345));
    }

    #[test]
    fn a_stream_tells_them_as_it_goes() {
        let chat = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"}{\"}}],\"usage\":null}\n\n\
            data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
        assert_eq!(told("openai", chat), of("m", 1, 2));
        let responses = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n";
        assert_eq!(told("azure-openai", responses), of("m", 3, 4));
        let messages = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n\
            event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n";
        assert_eq!(told("anthropic", messages), of("c", 25, 15));
        let generate = "[{\"candidates\":[{}],\"usageMetadata\":{\"promptTokenCount\":5}}\n,{\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":6},\"modelVersion\":\"g\"}]";
        assert_eq!(told("gemini", generate), of("g", 5, 6));
    }

    #[test]
    fn what_is_elsewhere_or_malformed_tells_nothing() {
        for text in [
            "",
            "no JSON",
            "[\"model\",\"m\"]",
            r#"{"choices":[{"model":"m","usage":{"prompt_tokens":1}}]}"#,
            r#"{"x":{"model":"m"}}"#,
            r#"{"model":{"x":"m"},"usage":[{"prompt_tokens":1}]}"#,
            r#"{"model":"a\nb","usage":{"prompt_tokens":"1"}}"#,
            "}}}]]]{{{{",
        ] {
            assert_eq!(told("openai", text), Told::default(), "{text}");
        }
        let long = format!("{{\"model\":\"{}\"}}", "m".repeat(500));
        assert_eq!(told("openai", &long), Told::default());
        assert_eq!(told("slack", r#"{"model":"m"}"#), Told::default());
    }

    #[test]
    fn whatever_comes_is_read_alike_in_any_pieces() {
        let mut dice = fastrand::Rng::with_seed(23);
        let words: Vec<&[u8]> = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\"model\"",
            "\"usage\":{",
            "\"prompt_tokens\":",
            "12",
            "\"m\"",
            "data: ",
            "\n\n",
            "null",
            "\"response\":{",
            "-",
            "\u{e9}",
        ]
        .map(str::as_bytes)
        .into();
        let dialect = builtin::dialect("openai").unwrap();
        let mut told = 0;
        for _ in 0..3_000 {
            let text: Vec<u8> =
                (0..dice.usize(..40)).flat_map(|_| words[dice.usize(..words.len())].to_vec()).collect();
            let (mut whole, mut cut) = (dialect.listener(), dialect.listener());
            whole.hear(&text);
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(dice.usize(1..=rest.len()));
                cut.hear(piece);
                rest = after;
            }
            assert_eq!(cut.told(), whole.told(), "{}", String::from_utf8_lossy(&text));
            assert!(whole.here.len() < 8 && whole.text.len() <= TEXT_MAX + 1, "{whole:?}");
            told += usize::from(*whole.told() != Told::default());
        }
        assert!(told > 10, "only {told} told anything");
    }

    #[test]
    fn a_path_tells_what_is_asked() {
        let of = |name: &str, path: &str| {
            builtin::dialect(name).unwrap().gen_ai(path).map(|(provider, name)| format!("{provider} {name}"))
        };
        assert_eq!(of("openai", "/v1/chat/completions").as_deref(), Some("openai chat"));
        assert_eq!(of("openai", "/v1/completions").as_deref(), Some("openai text_completion"));
        assert_eq!(
            of("azure-openai", "/openai/deployments/d/embeddings").as_deref(),
            Some("azure.ai.openai embeddings")
        );
        assert_eq!(of("deepseek", "/chat/completions").as_deref(), Some("deepseek chat"));
        assert_eq!(of("anthropic", "/v1/messages").as_deref(), Some("anthropic chat"));
        let path = "/v1beta/models/gemini-pro:streamGenerateContent";
        assert_eq!(of("gemini", path).as_deref(), Some("gcp.gemini generate_content"));
        assert_eq!(of("openai", "/v1/models"), None);
        assert_eq!(of("slack", "/api/chat.postMessage"), None);
    }
}
