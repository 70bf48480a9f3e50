"""An HTML report of an evaluation in a single file: table, plots, and example pairs."""

from rdvfi.evaluation.html_report.example_pairs import ExamplePairs
from rdvfi.evaluation.html_report.report_page import write_page

__all__ = ["ExamplePairs", "write_page"]
