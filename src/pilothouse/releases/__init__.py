"""Recovery: releases, pointers, canary, rollback."""
