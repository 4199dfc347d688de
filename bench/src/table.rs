//! A table, for a terminal or for a page.

/// Rows of cells below the names of their columns.
#[derive(Debug)]
pub(crate) struct Table {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
    /// How many columns, from the left, are words; the others are figures.
    words: usize,
}

impl Table {
    /// Without rows; `words` columns are words, those after them figures.
    pub(crate) fn new(words: usize, names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
            words,
        }
    }

    /// One more row, of as many cells as there are columns.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.names.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// For a terminal: columns stand below each other.
    pub(crate) fn lines(&self) -> Vec<String> {
        let widths: Vec<usize> = (0..self.names.len())
            .map(|at| self.all().map(|row| row[at].chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(at, (cell, &width))| {
                if at < self.words {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
            let cells: Vec<String> = cells.collect();
            cells.join("  ").trim_end().to_owned()
        };
        self.all().map(|row| line(row)).collect()
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> Vec<String> {
        let line = |row: &[String]| format!("| {} |", row.join(" | "));
        let rules: Vec<String> = (0..self.names.len())
            .map(|at| if at < self.words { "---" } else { "---:" }.to_owned())
            .collect();
        let mut lines = vec![line(&self.names), line(&rules)];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines
    }

    fn all(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.names).chain(&self.rows)
    }
}

/// A median, with the least and the most beside it.
pub(crate) fn with_spread(median: f64, [least, most]: [f64; 2], digits: usize) -> String {
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

/// A share as per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(1, &["who", "ms"]);
        table.row(["forebay".to_owned(), "0.3".to_owned()]);
        table.row(["go".to_owned(), "10.25".to_owned()]);
        table
    }

    #[test]
    fn columns_stand_below_each_other() {
        assert_eq!(
            table().lines(),
            ["who         ms", "forebay    0.3", "go       10.25"]
        );
    }

    #[test]
    fn page_says_which_columns_are_figures() {
        assert_eq!(
            table().markdown(),
            [
                "| who | ms |",
                "| --- | ---: |",
                "| forebay | 0.3 |",
                "| go | 10.25 |"
            ]
        );
    }
}
