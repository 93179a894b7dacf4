"""What the ML backend, the plugins and the sync share: geometry, the label config, region JSON and field names.

Standard library, numpy and defusedxml only; no I/O but reading ``label_config.xml``.
"""
