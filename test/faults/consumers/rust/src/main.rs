//! A resource server in Rust with jsonwebtoken: ISSUER AUDIENCE JWKS_URL [COOLDOWN_MS]; a token a line on stdin, `ok SUB`
//! or `refused REASON` a line on stdout. The library fetches nothing; its users keep the keys by their kid, and fetch the
//! set again for one that is not there, at most once in a cooldown (30 s here, as most have it).

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

struct KeyCache {
    url: String,
    cooldown: Duration,
    fetched_at: Option<Instant>,
    keys: HashMap<String, DecodingKey>,
}

impl KeyCache {
    fn get(&mut self, kid: &str) -> Result<&DecodingKey, Box<dyn Error>> {
        let is_cooling_down = self.fetched_at.is_some_and(|at| at.elapsed() < self.cooldown);
        if !self.keys.contains_key(kid) && !is_cooling_down {
            self.fetch()?;
        }
        self.keys.get(kid).ok_or_else(|| "unknown key".into())
    }

    fn fetch(&mut self) -> Result<(), Box<dyn Error>> {
        let set: JwkSet = ureq::get(&self.url).call()?.body_mut().read_json()?;
        self.fetched_at = Some(Instant::now());
        self.keys.clear();
        for jwk in &set.keys {
            if let Some(kid) = &jwk.common.key_id {
                self.keys.insert(kid.clone(), DecodingKey::from_jwk(jwk)?);
            }
        }
        Ok(())
    }
}

fn verify(token: &str, keys: &mut KeyCache, rules: &Validation) -> Result<String, Box<dyn Error>> {
    let header = decode_header(token)?;
    if header.typ.as_deref() != Some("at+jwt") {
        return Err("not an access token".into());
    }
    let key = keys.get(header.kid.as_deref().unwrap_or(""))?;
    Ok(decode::<Claims>(token, key, rules)?.claims.sub)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let cooldown_ms = arguments.get(4).map_or(30_000, |text| text.parse().expect("a cooldown in ms"));
    let mut keys = KeyCache {
        url: arguments[3].clone(),
        cooldown: Duration::from_millis(cooldown_ms),
        fetched_at: None,
        keys: HashMap::new(),
    };
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_issuer(&[&arguments[1]]);
    rules.set_audience(&[&arguments[2]]);
    rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    rules.validate_nbf = true;
    rules.leeway = 5;
    for line in stdin().lock().lines() {
        match verify(&line.expect("text"), &mut keys, &rules) {
            Ok(subject) => println!("ok {subject}"),
            Err(error) => println!("refused {}", error.to_string().replace('\n', " ")),
        }
    }
}
