//! Resume tokens: 256 random bits, written in URL-safe Base64; the state holds their SHA-256 alone.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chat_state::command::TokenHash;
use sha2::{Digest, Sha256};

use crate::config::Random;

pub(crate) struct Token(String);

impl Token {
    pub(crate) fn new(random: &mut dyn Random) -> Self {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

/// The hash of a token as a client wrote it.
pub(crate) fn hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token.as_bytes()).into())
}
