//! What a call is given, read strictly and within bounds.

use std::fmt;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
    let mut from = serde_json::Deserializer::from_slice(body);
    let read = object(&mut from).and_then(|read| from.end().map(|()| read));
    read.map_err(|error| No::bad(format!("the body cannot be read: {error}")))
}

/// What is written as an object, and nothing else: a list of values in the order of the fields would be taken for one too, and
/// an empty list for one that says nothing.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct Members<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members))
        }
    }
    from.deserialize_map(Members(PhantomData))
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
