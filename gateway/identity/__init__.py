"""Who calls: tokens of configured issuers, validated."""
