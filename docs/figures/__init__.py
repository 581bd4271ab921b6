"""Pictures and charts as SVG, in the colours of the page they are on."""
