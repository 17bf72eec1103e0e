"""Webhooks: record events, sign them and deliver them to the subscribed endpoints."""
