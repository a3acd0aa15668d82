//! Tables without borders.

use comfy_table::{
    Attribute, Cell, CellAlignment, ContentArrangement, Table as ComfyTable, presets,
};

use super::Ui;

/// Rows under a header. No borders; wrapped on terminals only, so that pipes get whole rows.
pub struct Table {
    header: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Names of the columns; those that end with `>` are aligned to the right.
    pub fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self {
            right: header.iter().map(|name| name.ends_with('>')).collect(),
            header: header
                .iter()
                .map(|name| name.trim_end_matches('>'))
                .collect(),
            rows: Vec::new(),
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(
            cells.len(),
            self.header.len(),
            "a row has a cell for each column"
        );
        self.rows.push(cells.into());
    }

    pub(super) fn render(self, ui: &Ui) -> String {
        let mut table = ComfyTable::new();
        table.load_style(presets::NOTHING);
        // A terminal of a container or a serial line may say that it has no columns.
        let has_width = table.width().is_some_and(|columns| columns > 0);
        table.set_content_arrangement(match ui.stdout_terminal && has_width {
            true => ContentArrangement::Dynamic,
            false => ContentArrangement::Disabled,
        });
        match ui.color {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        let name = |name: &str| Cell::new(name.to_uppercase()).add_attribute(Attribute::Bold);
        table.set_header(self.header.iter().copied().map(name));
        for row in &self.rows {
            // An untouched escape could move the cursor of whoever looks at it.
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        for (column, right) in table.column_iter_mut().zip(&self.right) {
            column.set_padding((0, 2));
            if *right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }
}

/// Control characters as their escapes.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}
