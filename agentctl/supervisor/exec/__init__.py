"""What users run in a sandbox beside its agent: ``/v1/processes``, terminals included."""
