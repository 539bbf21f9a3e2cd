"""Tables, figures and pages of the report, from localization tables."""
