//! Passwords, which are kept as argon2 hashes only.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, anyhow, bail};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params};

/// The longest password, in bytes.
const MAX_LENGTH: usize = 256;
/// The most memory that checking one may take, in KiB.
const MAX_MEMORY: u32 = 256 << 10;
/// The most passes over that memory.
const MAX_PASSES: u32 = 16;

/// The hash of a password, as `$argon2id$…`.
pub fn hash(password: &str) -> anyhow::Result<String> {
    if password.is_empty() || password.len() > MAX_LENGTH {
        bail!("expected a password of 1 to {MAX_LENGTH} bytes");
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context("the system has no randomness")?;
    let hash = SaltString::encode_b64(&salt).and_then(|salt| {
        Ok(Argon2::default()
            .hash_password(password.as_bytes(), &salt)?
            .to_string())
    });
    hash.map_err(|error| anyhow!("the password cannot be hashed: {error}"))
}

/// Whether a text is a hash that [`is_right`] can check in bounded time and memory.
pub fn is_hash(text: &str) -> bool {
    let fits = |hash: PasswordHash<'_>| {
        let known = Algorithm::try_from(hash.algorithm).is_ok();
        let bounded = Params::try_from(&hash)
            .is_ok_and(|cost| cost.m_cost() <= MAX_MEMORY && cost.t_cost() <= MAX_PASSES);
        known && bounded && hash.salt.is_some() && hash.hash.is_some()
    };
    PasswordHash::new(text).is_ok_and(fits)
}

/// Whether `hash` is the one of this password.
pub fn is_right(password: &str, hash: &str) -> bool {
    password.len() <= MAX_LENGTH
        && PasswordHash::new(hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
}

/// Asks for a password on the terminal, twice and without showing it; where standard
/// input is none, reads the first line of it.
pub fn ask() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("the password cannot be read")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let ask = |what| rpassword::prompt_password(what).context("the password cannot be read");
    let password = ask("Password: ")?;
    if ask("Once more: ")? != password {
        bail!("the two are not the same; nothing was made");
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_right_for_its_password_only() {
        let made = hash("höse 7").expect("it is hashed");
        assert!(is_hash(&made), "{made}");
        assert!(is_right("höse 7", &made));
        assert!(!is_right("höse 8", &made));
        assert_ne!(hash("höse 7").expect("it is hashed"), made, "salted");
        assert!(!made.contains("höse"));
    }

    #[test]
    fn lengths_and_costs_are_bounded() {
        assert!(hash("").is_err());
        assert!(hash(&"x".repeat(MAX_LENGTH)).is_ok());
        assert!(hash(&"x".repeat(MAX_LENGTH + 1)).is_err());
        let made = hash("x").expect("it is hashed");
        for wrong in [
            "secret".to_owned(),
            String::new(),
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ".to_owned(),
            made.replace("argon2id", "scrypt"),
            made.replace("m=19456", "m=4000000"),
            made.replace("t=2", "t=17"),
        ] {
            assert!(!is_hash(&wrong), "{wrong}");
        }
    }
}
