"""The control plane: the API that the command line and approvers use."""
