//! How a statement of ours is written: a struct with its binds, prepared once a connection.
//!
//! diesel caches what has a static [`QueryId`](diesel::query_builder::QueryId); `sql_query` never
//! has one, and would be prepared again with every call.

/// Declares a statement: its binds in the order of `$1`, `$2` …, its answer's columns, its text. A
/// struct that stands already is made one by naming the fields that are its binds.
///
/// diesel writes a placeholder wherever a bind is pushed, and has no public way to push a bind
/// alone. The placeholders are pushed into a comment behind the text, which names them itself, as
/// often and where it likes.
macro_rules! statement {
    (
        $(#[$doc:meta])*
        $name:ident { $($bind:ident: $rust:ty => $sql:ty),* $(,)? }
        -> ($($column:ty),* $(,)?)
        = $text:expr
    ) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub $bind: $rust,)*
        }

        statement! { impl $name [$($bind => $sql),*] -> ($($column),*) = $text }
    };
    (
        impl $name:ident [$($($field:ident).+ => $sql:ty),* $(,)?]
        -> ($($column:ty),* $(,)?)
        = $text:expr
    ) => {
        impl diesel::query_builder::QueryId for $name {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                out.push_sql($text);
                out.push_sql(" -- ");
                $(out.push_bind_param::<$sql, _>(&self.$($field).+)?;)*
                Ok(())
            }
        }

        impl diesel::query_builder::Query for $name {
            type SqlType = ($($column,)*);
        }
    };
}

pub(super) use statement;
