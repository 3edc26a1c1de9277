//! What a request names: whom it is for, which model it asks, what orders it.

/// What can be looked for in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What orders it: requests of one value stay in order.
    Order,
    /// Whom it is for.
    Recipient,
    /// Which model it asks.
    Model,
}

/// A request, as far as a dialect looks into it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its path, without the route's prefix.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
    /// What its body is.
    pub content_type: Option<&'a str>,
    /// Its body, if it could be had.
    pub body: &'a [u8],
}
