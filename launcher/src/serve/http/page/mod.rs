//! The page: every camera on a wall, and one of them large; and one camera alone, for
//! other sites to embed. Its files are part of the program.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::Refusal;

/// Name, type and contents of the page's files.
const FILES: [(&str, &str, &str); 11] = [
    ("page.css", CSS, include_str!("page.css")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("page.js", SCRIPT, include_str!("page.js")),
    ("large.js", SCRIPT, include_str!("large.js")),
    ("tile.js", SCRIPT, include_str!("tile.js")),
    ("direct.js", SCRIPT, include_str!("direct.js")),
    ("clock.js", SCRIPT, include_str!("clock.js")),
    ("wall.js", SCRIPT, include_str!("wall.js")),
    ("whep.js", SCRIPT, include_str!("whep.js")),
    ("text.js", SCRIPT, include_str!("text.js")),
    ("embed.js", SCRIPT, include_str!("embed.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// As for every answer, but that other sites may frame it: there is nothing to click.
const EMBEDDED: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors *";

type File = (HeaderMap, &'static str);

fn file(kind: &'static str, contents: &'static str) -> File {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    (headers, contents)
}

/// `GET /`: the page.
pub async fn index() -> File {
    file(HTML, include_str!("index.html"))
}

/// `GET /embed/{name}`: one camera, which the script finds in the address.
pub async fn embed() -> File {
    let (mut headers, contents) = file(HTML, include_str!("embed.html"));
    let policy = HeaderValue::from_static(EMBEDDED);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    (headers, contents)
}

/// `GET /page/{file}`: what the page is made of.
pub async fn asset(Path(name): Path<String>) -> Result<File, Refusal> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, contents) =
        found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "the page has no such file"))?;
    Ok(file(kind, contents))
}
