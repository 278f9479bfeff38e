//! Answers in gzip, for clients that accept it: a long list of queues shrinks to a tenth.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::io::Write;
use tokio::sync::Semaphore;

/// Smaller answers are sent as they are: they fit into a packet or two anyway.
const BYTES_MIN: u64 = 1024;

/// Larger ones too: both forms have to be in memory.
const BYTES_MAX: u64 = 64 << 20;

/// How many are compressed at once; other answers are sent as they are meanwhile. It takes a processor some milliseconds for each
/// mebibyte.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Asks the next one, and makes its answer smaller if that pays and the client takes it.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let is_taken = request.method() != Method::HEAD && takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let size = response.body().size_hint().exact();
    let is_worth_it = size.is_some_and(|size| (BYTES_MIN..=BYTES_MAX).contains(&size))
        && !response.headers().contains_key(header::CONTENT_ENCODING);
    if !is_worth_it {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(_permit) = AT_ONCE.try_acquire().ok().filter(|_| is_taken) else { return response };
    let (mut head, body) = response.into_parts();
    let Ok(plain) = body.collect().await.map(|body| body.to_bytes()) else {
        return Response::from_parts(head, Body::empty());
    };
    let compressed = {
        let plain = plain.clone();
        tokio::task::spawn_blocking(move || gzip(&plain)).await.ok().flatten()
    };
    let Some(compressed) = compressed else { return Response::from_parts(head, Body::from(plain)) };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(head, Body::from(compressed))
}

/// Whether the client says that it takes gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut any = false;
    for coding in lines.flat_map(|line| line.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
        let is_taken = weight.is_some_and(|weight| weight > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                return is_taken;
            }
            "*" => any = is_taken,
            _ => {}
        }
    }
    any
}

/// The fastest way there is: what is said over and over in an answer is found all the same.
fn gzip(plain: &Bytes) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use flate2::read::GzDecoder;
    use std::io::Read;
    use tower::ServiceExt;

    fn takes(lines: &[&str]) -> bool {
        let lines = lines.iter().map(|line| (header::ACCEPT_ENCODING, line.parse().unwrap()));
        takes_gzip(&lines.collect())
    }

    #[test]
    fn gzip_is_taken_where_it_is_named_or_anything_is() {
        for lines in [&["gzip"][..], &["br, gzip;q=0.5"], &["GZIP"], &["*"], &["br", "x-gzip ; q=1"]] {
            assert!(takes(lines), "{lines:?}");
        }
        for lines in
            [&[][..], &[""], &["br"], &["gzip;q=0, *"], &["gzip; q=0.000"], &["gzip;q=x"], &["*;q=0"]]
        {
            assert!(!takes(lines), "{lines:?}");
        }
    }

    async fn ask(path: &str, encoding: &'static str) -> Response {
        let router = Router::new()
            .route("/long", get(async || "so it goes. ".repeat(1000)))
            .route("/short", get(async || "so it goes"))
            .layer(axum::middleware::from_fn(compress));
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        router.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_long_answer_becomes_shorter_and_stays_the_same() {
        let answer = ask("/long", "deflate, gzip").await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            (&answer.headers()["content-encoding"], &answer.headers()["vary"]),
            (&"gzip".parse().unwrap(), &"accept-encoding".parse().unwrap())
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.len() < 200, "{}", body.len());
        let mut text = String::new();
        GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "so it goes. ".repeat(1000));
    }

    #[tokio::test]
    async fn what_is_short_or_not_to_be_made_shorter_is_sent_as_it_is() {
        for (path, encoding, bytes) in [("/long", "identity", 12_000), ("/short", "gzip", 10)] {
            let answer = ask(path, encoding).await;
            assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), bytes);
        }
    }
}
