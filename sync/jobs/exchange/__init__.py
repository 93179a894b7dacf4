"""What goes between the catalogue and Label Studio, both ways, one module a job and the parts they share."""
