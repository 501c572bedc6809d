"""A scripted model server: the test's prompt is the script, and real coding agents run on it without network or key.

``[[name:argument]]`` markers in the last user message are played in order; ``script.py`` lists them.
Four APIs: Anthropic Messages, OpenAI Responses, OpenAI Chat Completions, Gemini generateContent.
"""

from tests.model_server.server import ModelServer, Request

__all__ = ["ModelServer", "Request"]
