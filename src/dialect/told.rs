//! What a model's answer has told of itself.

/// Which tokens a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    Input,
    Output,
    CacheRead,
    CacheCreation,
    Reasoning,
}

/// What an answer has told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The model that answered.
    pub model: Option<String>,
    /// The prompt's tokens, as the API counts them.
    pub input_tokens: Option<u64>,
    /// The answer's.
    pub output_tokens: Option<u64>,
    /// Tokens of the prompt that it counts beside those: read from a cache…
    pub cache_read_tokens: Option<u64>,
    /// …or written into one.
    pub cache_creation_tokens: Option<u64>,
    /// Tokens of the answer that it counts beside those: spent on thinking.
    pub reasoning_tokens: Option<u64>,
}

impl Told {
    /// All of the prompt's tokens.
    #[must_use]
    pub fn input(&self) -> Option<u64> {
        let beside = [self.cache_read_tokens, self.cache_creation_tokens];
        self.input_tokens.map(|own| beside.into_iter().flatten().fold(own, u64::saturating_add))
    }

    /// All of the answer's.
    #[must_use]
    pub fn output(&self) -> Option<u64> {
        // One that was cut off while it was thinking tells no others.
        let own = self.output_tokens.or(self.reasoning_tokens.map(|_| 0));
        own.map(|own| own.saturating_add(self.reasoning_tokens.unwrap_or(0)))
    }

    pub(super) const fn place(&mut self, tokens: Tokens) -> &mut Option<u64> {
        match tokens {
            Tokens::Input => &mut self.input_tokens,
            Tokens::Output => &mut self.output_tokens,
            Tokens::CacheRead => &mut self.cache_read_tokens,
            Tokens::CacheCreation => &mut self.cache_creation_tokens,
            Tokens::Reasoning => &mut self.reasoning_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::builtin;

    fn told(dialect: &str, text: &str) -> Told {
        let mut listener = builtin::dialect(dialect).unwrap().listener();
        listener.hear(text.as_bytes());
        listener.told().clone()
    }

    #[test]
    fn tokens_that_an_api_counts_beside_are_added_once() {
        let cached = "data: {\"message\":{\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":100,\"cache_creation\":{\"ephemeral_5m_input_tokens\":7},\"output_tokens\":1}}}\n\n\
            data: {\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":100,\"output_tokens\":15}}\n\n";
        let cached = told("anthropic", cached);
        assert_eq!(
            (cached.input(), cached.cache_read_tokens, cached.output()),
            (Some(132), Some(100), Some(15))
        );
        let thought = r#"{"usageMetadata":{"promptTokenCount":5,"cachedContentTokenCount":4,"candidatesTokenCount":6,"thoughtsTokenCount":30}}"#;
        assert_eq!((told("gemini", thought).input(), told("gemini", thought).output()), (Some(5), Some(36)));
        assert_eq!(told("gemini", r#"{"usageMetadata":{"thoughtsTokenCount":30}}"#).output(), Some(30));
        // OpenAI counts them among the others.
        let among = r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens":7,"completion_tokens_details":{"reasoning_tokens":6}}}"#;
        assert_eq!((told("openai", among).input(), told("openai", among).output()), (Some(9), Some(7)));
    }
}
