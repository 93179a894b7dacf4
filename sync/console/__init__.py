"""The admin's web page, the job API the App's plugin talks to, and the receiver of Label Studio's webhooks."""
