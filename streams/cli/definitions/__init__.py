"""What an application is made of: topics, definitions, settings, and the contract of the messages."""
