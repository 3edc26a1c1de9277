//! What a call of the admin side is: a row of one table, from which its route, its rule and its description are made. So no
//! route is without a rule, and none goes untold.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::limit::RequestBodyLimitLayer;

use super::auth::Caller;
use super::problem::No;
use super::state::Admin;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Whoever reaches a listener.
    Open,
    /// Whoever reaches `admin.listen`.
    OpenHere,
    /// Any token; it is shown what its upstreams are.
    Viewer,
    /// Any token that is not bounded to some upstreams.
    ViewerOfAll,
    /// An operator's token; it touches what its upstreams are.
    Operator,
    /// An operator's token that is not bounded to some upstreams.
    OperatorOfAll,
}

/// How a schema is made.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One call.
pub(super) struct Call<S = Arc<Admin>> {
    pub(super) method: Method,
    /// As routers and OpenAPI both write it.
    pub(super) path: &'static str,
    pub(super) rule: Rule,
    pub(super) about: &'static str,
    pub(super) query: Option<SchemaOf>,
    /// What it takes, and whether it must be there.
    pub(super) body: Option<(Format, bool)>,
    pub(super) answers: (StatusCode, Format),
    /// It answers with an `ETag`, and heeds `If-Match`.
    pub(super) tagged: (bool, bool),
    /// What else may go wrong.
    pub(super) fails: &'static [u16],
    body_max: usize,
    routes: MethodRouter<S>,
}

/// What a body is.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Json(SchemaOf),
    /// A media type, and what it is.
    Other(&'static str, &'static str),
}

/// No call needs a larger body, unless it says so.
const BODY_MAX: usize = 64 * 1024;

impl<S: Clone + Send + Sync + 'static> Call<S> {
    pub(super) fn get<T: 'static>(
        path: &'static str,
        rule: Rule,
        about: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        Self::new((Method::GET, MethodFilter::GET), path, rule, about, handler)
    }

    pub(super) fn post<T: 'static>(
        path: &'static str,
        rule: Rule,
        about: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        Self::new((Method::POST, MethodFilter::POST), path, rule, about, handler)
    }

    pub(super) fn put<T: 'static>(
        path: &'static str,
        rule: Rule,
        about: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        Self::new((Method::PUT, MethodFilter::PUT), path, rule, about, handler)
    }

    pub(super) fn delete<T: 'static>(
        path: &'static str,
        rule: Rule,
        about: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        Self::new((Method::DELETE, MethodFilter::DELETE), path, rule, about, handler)
    }

    fn new<T: 'static>(
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        rule: Rule,
        about: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        Self {
            method,
            path,
            rule,
            about,
            query: None,
            body: None,
            answers: (StatusCode::OK, Format::Json(SchemaGenerator::subschema_for::<serde_json::Value>)),
            tagged: (false, false),
            fails: &[],
            body_max: BODY_MAX,
            routes: on(filter, handler),
        }
    }

    /// It asks by these parameters of the query.
    pub(super) fn asks<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(|generator| Q::json_schema(generator));
        self
    }

    /// Its body must be this.
    pub(super) fn takes<B: JsonSchema>(mut self) -> Self {
        self.body = Some((Format::Json(SchemaGenerator::subschema_for::<B>), true));
        self
    }

    /// Its body may be this.
    pub(super) fn may_take<B: JsonSchema>(self) -> Self {
        let mut call = self.takes::<B>();
        if let Some((_, required)) = &mut call.body {
            *required = false;
        }
        call
    }

    /// Its body must be of this form, up to so many bytes.
    pub(super) fn takes_other(mut self, format: Format, max: usize) -> Self {
        self.body = Some((format, true));
        self.body_max = max;
        self
    }

    /// It answers with this.
    pub(super) fn gives<A: JsonSchema>(self) -> Self {
        self.gives_at::<A>(StatusCode::OK)
    }

    /// It answers with this, under another status than 200.
    pub(super) fn gives_at<A: JsonSchema>(mut self, status: StatusCode) -> Self {
        self.answers = (status, Format::Json(SchemaGenerator::subschema_for::<A>));
        self
    }

    /// It answers with what is not JSON.
    pub(super) fn gives_other(mut self, media_type: &'static str, what: &'static str) -> Self {
        self.answers = (StatusCode::OK, Format::Other(media_type, what));
        self
    }

    /// It answers with an `ETag`; and heeds `If-Match`, if it changes something.
    pub(super) fn tagged(mut self) -> Self {
        self.tagged = (true, self.method != Method::GET);
        self
    }

    /// It may fail so, besides as all calls may.
    pub(super) const fn fails(mut self, statuses: &'static [u16]) -> Self {
        self.fails = statuses;
        self
    }

    /// Others wait for it to end: it needs much.
    pub(super) fn one_at_a_time(mut self) -> Self {
        self.routes = self.routes.layer(GlobalConcurrencyLimitLayer::new(1));
        self
    }

    /// The call, once what it works on is known.
    pub(super) fn on<S2>(self, state: S) -> Call<S2> {
        let Self { method, path, rule, about, query, body, answers, tagged, fails, body_max, routes } = self;
        let routes = routes.with_state(state);
        Call { method, path, rule, about, query, body, answers, tagged, fails, body_max, routes }
    }
}

/// A router of these calls, each behind its rule. Who calls is known by then: see [`super::auth`].
pub(super) fn routed<S: Clone + Send + Sync + 'static>(calls: Vec<Call<S>>) -> Router<S> {
    calls.into_iter().fold(Router::new(), |router, call| {
        let rule = call.rule;
        let bounds = (DefaultBodyLimit::max(call.body_max), RequestBodyLimitLayer::new(call.body_max));
        let acts = call.method != Method::GET;
        let asks = call.query.is_some() || !rule.needs_token();
        let guard = from_fn(move |request: Request, next: Next| admitted((rule, asks), request, next));
        let mut routes = call.routes;
        if acts {
            routes = routes.layer(from_fn(to_its_end));
        }
        let routes: MethodRouter<S> = routes.layer(bounds.0);
        let routes: MethodRouter<S> = routes.layer(bounds.1);
        router.route(call.path, routes.layer(guard))
    })
}

/// What has been begun is done, and told, though whoever asked for it has hung up.
async fn to_its_end(request: Request, next: Next) -> Response {
    let done = tokio::spawn(next.run(request)).await;
    done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn admitted((rule, asks): (Rule, bool), request: Request, next: Next) -> Response {
    if !asks && request.uri().query().is_some_and(|query| !query.is_empty()) {
        // Taken for nothing, a filter that stands in the wrong place would mean all.
        return No::bad("this call takes no query").into_response();
    }
    if let Err(no) = rule.admits(request.extensions().get()) {
        if let Some(caller) = request.extensions().get::<Caller>() {
            caller.audit_refused(request.method(), request.uri().path());
        }
        return no.into_response();
    }
    next.run(request).await
}

impl Rule {
    /// Whether this caller may make the call.
    fn admits(self, caller: Option<&Caller>) -> Result<(), No> {
        let role = match self {
            Self::Open | Self::OpenHere => return Ok(()),
            Self::Viewer => Caller::views,
            Self::ViewerOfAll => Caller::views_all,
            Self::Operator => Caller::operates,
            Self::OperatorOfAll => Caller::operates_all,
        };
        if role(caller.ok_or(No::Unknown)?) { Ok(()) } else { Err(No::Beyond) }
    }

    /// Whether it needs a token.
    pub(super) const fn needs_token(self) -> bool {
        !matches!(self, Self::Open | Self::OpenHere)
    }

    /// The word for it in the description of the API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Open | Self::OpenHere => "open",
            Self::Viewer => "viewer",
            Self::ViewerOfAll => "viewer of all upstreams",
            Self::Operator => "operator",
            Self::OperatorOfAll => "operator of all upstreams",
        }
    }
}
