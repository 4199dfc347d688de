//! PLAIN (RFC 4616): user and password as they are.
//!
//! Invariant: no identity is asked for but the user's own.

use super::{SaslCredentials, Token};

/// The only message there is.
pub(super) fn message(credentials: &SaslCredentials) -> Token {
    let (user, password) = (
        credentials.username.as_bytes(),
        credentials.password.as_bytes(),
    );
    // The whole room at once: a vector that grows leaves copies of the password behind.
    let mut message =
        Vec::with_capacity(user.len().saturating_add(password.len()).saturating_add(2));
    message.push(0);
    message.extend_from_slice(user);
    message.push(0);
    message.extend_from_slice(password);
    Token::new(message)
}
