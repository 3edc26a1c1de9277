//! What a call is given, read strictly and within bounds.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::No;

/// A body of JSON, whatever its content type says: a hand-written call often says nothing.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = No;

    async fn from_request(request: Request, state: &S) -> Result<Self, No> {
        let body = whole(request, state).await?;
        if body.is_empty() {
            return Err(No::bad("the body is missing"));
        }
        read(&body).map(Self)
    }
}

/// A body of JSON that may be left out.
pub(super) struct MaybeBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = No;

    async fn from_request(request: Request, state: &S) -> Result<Self, No> {
        let body = whole(request, state).await?;
        if body.is_empty() { Ok(Self(T::default())) } else { read(&body).map(Self) }
    }
}

async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, No> {
    Bytes::from_request(request, state).await.map_err(|rejected| match rejected.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            No::Because(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large for this call".to_owned())
        }
        _ => No::bad("the body broke off"),
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, No> {
    serde_json::from_slice(body).map_err(|error| No::bad(format!("the body cannot be read: {error}")))
}

/// The parameters of the query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, No> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let query =
            query.map_err(|error| No::bad(format!("the query cannot be read: {}", error.body_text())));
        Ok(Self(query?.0))
    }
}
